"""Documents for training: stories, chats and short passages of facts.

A document is a list of text fragments and special tokens, cut exactly where a server cuts the rendered prompt:
special tokens stand alone, and the prompt's closing "Assistant: " is tokenised apart from the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from . import facts, passages, stories
from .facts import Turn
from .lexicon import ANIMALS, BOY_NAMES, GIRL_NAMES, PEOPLE, TREASURES, a, made_up_word

BOS, EOS, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
SPECIAL_TOKENS = (BOS, EOS, EOT)

Document = list[str]

SYSTEM_PROMPTS = ("You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly assistant.", "Answer in short sentences.",
                  "You are a small demo model.", "You tell stories to children.", "Be kind and honest.", "You are an expert for servers.")


def story_request(rng: random.Random) -> Turn:
    """A request that names a hero, a theme, a thing or a place, and a story that keeps to it."""
    kinds = [x.name for x in ANIMALS] + [person for person, _ in PEOPLE]
    ask = rng.choice(("Tell me a story about {}.", "Tell me a story about {}.", "Write a story about {}.", "Write a short story about {}.",
                      "Please tell me a story about {}.", "Can you tell me a story about {}?", "I want a story about {}.", "tell me a story about {}"))
    kind = rng.choice(kinds)
    plots = stories.PLOTS
    choice = rng.random()
    if choice < 0.5:
        cast, plot = stories.make_cast(rng, kind), rng.choice(list(plots.values()))
        subject = a(kind)
    elif choice < 0.62:
        name = rng.choice(BOY_NAMES + GIRL_NAMES)
        cast, plot = stories.make_cast(rng, kind, name), rng.choice(list(plots.values()))
        if cast.hero.he not in [he for person, he in PEOPLE if person == kind] and kind in [person for person, _ in PEOPLE]:
            return story_request(rng)
        subject = f"{a(kind)} named {name}"
    elif choice < 0.72:
        other = rng.choice([k for k in kinds if k != kind])
        cast, plot = stories.make_cast(rng, kind, friend_kind=other), rng.choice(list(plots.values()))
        subject = f"{a(kind)} and {a(other)}"
    elif choice < 0.92:
        cast = stories.make_cast(rng)
        theme = rng.choice(list(plots))
        plot, subject = plots[theme], theme.format(thing=cast.thing, craft=a(cast.craft))
    else:
        cast, plot = stories.make_cast(rng), rng.choice(list(plots.values()))
        return Turn(rng.choice(("Tell me a story.", "Can you tell me a story?", "Please tell me a story.", "Write a short story.", "I want to hear a story.")),
                    stories.tell(cast, plot, True, False))
    return Turn(ask.format(subject), stories.tell(cast, plot, rng.random() < 0.85, False))


def follow_up(rng: random.Random) -> list[Turn]:
    """Several turns in which a later question needs an earlier turn."""
    name = rng.choice(BOY_NAMES + GIRL_NAMES) if rng.random() < 0.6 else made_up_word(rng).capitalize()
    choice = rng.randrange(4)
    if choice == 0:
        turns = [Turn(rng.choice((f"My name is {name}.", f"Hello, my name is {name}.", f"Hi, I am {name}.", f"I am {name}.")),
                      rng.choice((f"Hello {name}! How can I help you?", f"Hello {name}! Nice to meet you."))),
                 Turn(rng.choice(("What is my name?", "Do you remember my name?", "Who am I?")), f"Your name is {name}.")]
        if rng.random() < 0.5:
            turns.insert(1, facts.question(rng))
        return turns
    if choice == 1:
        thing, hue = rng.choice(TREASURES).split()[-1], rng.choice(("red", "blue", "green", "yellow", "black", "white"))
        return [Turn(f"I have {a(hue)} {thing}.", f"That sounds nice. {a(hue).capitalize()} {thing} is a fine thing to have."),
                Turn(rng.choice((f"What colour is my {thing}?", "Which colour is it?", "What colour is it?")), f"Your {thing} is {hue}.")]
    if choice == 2:
        first = story_request(rng)
        hero = next(n for n in first.assistant.replace(".", " ").replace(",", " ").split() if n in BOY_NAMES + GIRL_NAMES)
        return [first, Turn(rng.choice(("Who was the story about?", "What was the name of the hero?", "Who was the hero?")),
                            f"The story was about {hero}.")]
    animal = rng.choice(ANIMALS)
    return [Turn(rng.choice((f"I like the {animal.name}.", f"My favourite animal is the {animal.name}.")), f"The {animal.name} is a wonderful animal."),
            Turn(rng.choice(("What does it eat?", "And what does it eat?")), f"It eats {animal.food}."),
            Turn(rng.choice(("What can it do?", "And what can it do?")), f"It can {animal.skill}.")]


def render_chat(turns: list[Turn], system: str | None) -> Document:
    """Fragments of a chat. Past answers are one fragment with their role, the last one follows the open prompt."""
    document = [BOS]
    if system is not None:
        document += [f"System: {system}", EOT]
    for turn in turns[:-1]:
        document += [f"User: {turn.user}", EOT, f"Assistant: {turn.assistant}", EOT]
    document += [f"User: {turns[-1].user}", EOT, "Assistant: ", turns[-1].assistant, EOT, EOS]
    return document


def chat(rng: random.Random) -> Document:
    choice = rng.random()
    if choice < 0.48:
        turns = [facts.question(rng)]
    elif choice < 0.74:
        turns = [facts.question(rng) for _ in range(rng.randint(2, 4))]
    elif choice < 0.82:
        turns = follow_up(rng)
    elif choice < 0.84:
        turns = [facts.question(rng), story_request(rng)]
    else:
        turns = [story_request(rng)]
    return render_chat(turns, rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.3 else None)


def fact_list(rng: random.Random) -> Document:
    """Plain text made of a few facts, so that the answers are known outside a chat, too."""
    generators = (facts.technical, facts.capital, facts.colour, facts.animal, facts.opposite, facts.calendar)
    generate = rng.choice(generators)
    answers = dict.fromkeys(generate(rng).assistant for _ in range(rng.randint(2, 5)))
    return [BOS, " ".join(answers), EOS]


def question_and_answer(rng: random.Random) -> Document:
    """Plain-text completion in the form people type into a completion endpoint."""
    turn = facts.question(rng)
    style = rng.choice(("Question: {}\nAnswer: {}", "Q: {}\nA: {}", "{}\n{}", "{} {}"))
    return [BOS, style.format(turn.user, turn.assistant), EOS]


def document(rng: random.Random) -> Document:
    """One document; four in five are chats, but half of the text is in the stories."""
    choice = rng.random()
    if choice < 0.12:
        return [BOS, stories.random_story(rng), EOS]
    if choice < 0.88:
        return chat(rng)
    if choice < 0.91:
        return [BOS, passages.random_passage(rng), EOS]
    return fact_list(rng) if choice < 0.95 else question_and_answer(rng)


def documents(seed: int) -> Iterator[Document]:
    """An endless, reproducible stream; different seeds give disjoint streams in practice."""
    rng = random.Random(seed)
    while True:
        yield document(rng)
