"""Question and answer pairs: small general knowledge, and the health of inference services.

Every answer is a full sentence. Generators take the random source so that wordings vary.
"""

from __future__ import annotations

import random
from typing import Callable, NamedTuple

from .lexicon import ANIMALS, CAPITALS, COLOURS, COLOUR_NAMES, DAYS, MONTHS, NUMBERS, OPPOSITES, a, made_up_word


class Turn(NamedTuple):
    """One exchange of a chat."""

    user: str
    assistant: str


class Topic(NamedTuple):
    """A term with its ways to be asked for and its answers."""

    names: tuple[str, ...]
    answers: tuple[str, ...]


TECHNICAL = (
    Topic(("a health check", "a health probe", "a health endpoint"),
          ("A health check is a small request that asks a service if it is well. The service answers with its true state.",)),
    Topic(("a liveness probe", "a liveness check", "liveness"),
          ("A liveness probe asks if a service is still alive. If it fails, the service is restarted.",)),
    Topic(("a readiness probe", "a readiness check", "readiness"),
          ("A readiness probe asks if a service can take requests now. If it fails, no traffic is sent to it, but it is not restarted.",)),
    Topic(("a startup probe", "a startup check"),
          ("A startup probe gives a slow service time to start. The other probes wait until it has passed.",)),
    Topic(("Kubernetes",),
          ("Kubernetes is a system that runs services on many machines. It starts them, watches them and restarts them.",)),
    Topic(("a server",), ("A server is a program that waits for requests and answers them.",)),
    Topic(("a client",), ("A client is a program that sends requests to a server.",)),
    Topic(("an actor", "the actor model"),
          ("An actor is a small part of a program with its own state. Actors talk to each other only with messages.",)),
    Topic(("a supervisor",), ("A supervisor watches other actors. When one of them dies, the supervisor starts it again.",)),
    Topic(("a worker",), ("A worker runs the model on one device. It takes a prompt and sends back tokens.",)),
    Topic(("a snapshot",), ("A snapshot is a picture of the state at one moment. It can be read quickly, because it never changes.",)),
    Topic(("a metric", "metrics"), ("A metric is a number that a service measures, for example the requests in one second.",)),
    Topic(("a token", "tokens"), ("A token is a small piece of text. A model reads and writes text token by token.",)),
    Topic(("a tokenizer",), ("A tokenizer cuts text into tokens and turns each token into a number.",)),
    Topic(("a language model", "an LLM"),
          ("A language model is a program that reads text and guesses the next token. With one token after another it writes a whole text.",)),
    Topic(("BitNet",), ("BitNet is a kind of language model with very small weights. Each weight is minus one, zero or plus one.",)),
    Topic(("a ternary weight", "ternary weights", "a ternary model"),
          ("A ternary weight has only three values: minus one, zero and plus one. It needs very little memory.",)),
    Topic(("quantization", "quantisation"), ("Quantization stores numbers with fewer bits. The model becomes smaller and faster.",)),
    Topic(("inference",), ("Inference means to run a trained model, so that it answers a prompt.",)),
    Topic(("training",), ("Training means to show a model many examples, so that it learns from its mistakes.",)),
    Topic(("a prompt",), ("A prompt is the text that you give to a model. The model writes what comes next.",)),
    Topic(("a KV cache", "the KV cache"),
          ("The KV cache keeps the keys and values of earlier tokens, so that they are not computed again.",)),
    Topic(("attention",), ("Attention lets a model look back at earlier tokens and choose those that matter.",)),
    Topic(("a GPU",), ("A GPU is a chip that does many small computations at the same time.",)),
    Topic(("a CPU",), ("A CPU is the main chip of a computer. It runs the programs.",)),
    Topic(("memory",), ("Memory is the place where a computer keeps the data that it is working on.",)),
    Topic(("latency",), ("Latency is the time from a request to its answer. Less is better.",)),
    Topic(("throughput",), ("Throughput is how much work is done in one second. More is better.",)),
    Topic(("a timeout", "a time-out"), ("A timeout is the longest time that a program waits for an answer.",)),
    Topic(("a canary",), ("A canary is a small test with a known answer. It runs all the time and shows that the engine is right.",)),
    Topic(("graceful shutdown", "draining"),
          ("When a service drains, it takes no new requests and finishes the ones it has. Then it stops.",)),
    Topic(("back-pressure",), ("Back-pressure tells a sender to slow down when the receiver has too much to do.",)),
    Topic(("a cluster",), ("A cluster is a group of machines that work together as one service.",)),
    Topic(("C++",), ("C++ is a programming language for fast programs.",)),
    Topic(("Python",), ("Python is a programming language that is easy to read and to learn.",)),
    Topic(("HTTP",), ("HTTP is the language of the web. A client sends a request, and a server sends a response.",)),
    Topic(("JSON",), ("JSON is a simple text format for data. It has objects, lists, text, numbers, true, false and null.",)),
)

ASK_TERM = ("What is {}?", "What is {}?", "what is {}", "Explain {}.", "What does {} mean?", "Can you explain {}?",
            "Tell me about {}.", "Please explain what {} is.", "Define {}.", "What's {}?")

FIXED = (
    (("What is the difference between liveness and readiness?", "How do liveness and readiness differ?",
      "Liveness or readiness, what is the difference?"),
     "Liveness asks if the service is alive. Readiness asks if it can take requests now. A failed liveness probe restarts the service, and a failed readiness probe only stops the traffic."),
    (("What does status 503 mean?", "What does HTTP 503 mean?", "What is a 503?"),
     "Status 503 means that the service is not available now. Try again later."),
    (("What does status 200 mean?", "What does HTTP 200 mean?"), "Status 200 means that all is well."),
    (("What does status 404 mean?", "What does HTTP 404 mean?"), "Status 404 means that the page was not found."),
    (("What does status 500 mean?", "What does HTTP 500 mean?"), "Status 500 means that the server made an error."),
    (("Are you healthy?", "How is your health?", "Is the server healthy?"),
     "I can answer you, so I am running. Ask the health endpoint for the measured state."),
    (("Why should a health check not block?", "Why must a probe be fast?"),
     "A slow health check looks like a dead service. Then a good service is restarted for no reason."),
    (("How many bits does a ternary weight need?", "How many bits has a ternary weight?"),
     "A ternary weight needs about 1.58 bits, because it has three values."),
)

SMALL_TALK = (
    (("Hello!", "Hello", "Hi", "Hi!", "Hey", "Hello there!", "Good morning!", "Good evening!"),
     ("Hello! How can I help you?", "Hello! What would you like to know?")),
    (("How are you?", "How are you today?", "Are you well?", "How do you do?"), ("I am well, thank you. How can I help you?",)),
    (("What is your name?", "Who are you?", "What are you?", "Tell me about yourself.", "what is your name", "Introduce yourself."),
     ("I am a small demo model. I have ternary weights, and I can tell stories and answer simple questions.",)),
    (("What can you do?", "How can you help me?", "What do you know?", "Help", "What can I ask you?"),
     ("I can tell short stories and answer simple questions about numbers, colours, animals, cities and health checks.",)),
    (("Are you a human?", "Are you a person?", "Are you real?", "Are you a robot?"),
     ("No, I am not a person. I am a small language model that runs in a server.",)),
    (("How big are you?", "How many weights do you have?", "Are you a large model?"),
     ("I am very small. I have only a few million ternary weights.",)),
    (("Thank you!", "Thanks", "Thank you very much.", "Thanks a lot!"), ("You are welcome!", "You are welcome! Is there anything else?")),
    (("Goodbye!", "Bye", "See you later!", "Good night!"), ("Goodbye! Have a nice day.",)),
    (("What is the meaning of life?", "Why are we here?"), ("Nobody knows for sure. Be kind and share what you have.",)),
    (("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."),
     ("Why did the robot go to bed? Because it had to recharge.", "Why did the server smile? Because all of its checks were green.",
      "What do you call a bear with no teeth? A gummy bear.", "Why was the math book sad? Because it had so many problems.")),
    (("Write a poem.", "Tell me a poem.", "Do you know a poem?", "Can you write a poem?"),
     ("The moon is bright, the night is deep. The stars keep watch while people sleep.",
      "The sun comes up, the birds all sing. A happy day is what they bring.",
      "A little light, so small and green, says all is well in the machine.")),
    (("Can you help me?", "I need help.", "Please help me."), ("Yes, I will try. What would you like to know?",)),
    (("I am sad.", "I feel sad today.", "I am not happy."), ("I am sorry to hear that. Would you like to hear a story?",)),
    (("I am happy.", "I feel good today.", "I had a good day."), ("That is wonderful! I am happy to hear that.",)),
    (("What time is it?", "What day is it today?", "What is the date?"), ("I am sorry, I have no clock. I only know what I learned in training.",)),
    (("What is the weather like?", "Will it rain tomorrow?", "Is it cold outside?"), ("I am sorry, I cannot see the weather from here.",)),
    (("What is your favourite colour?", "Which colour do you like?"), ("I like green, because green means that all is well.",)),
    (("What is your favourite animal?", "Which animal do you like?"), ("I like the fox, because it is clever.",)),
    (("Good", "Ok", "Yes", "I see.", "Okay", "Great!", "Nice."), ("Good! What would you like to know?",)),
)

UNKNOWN_ANSWERS = ("I am sorry, I do not know that. I am only a small model.",)
UNKNOWN_FORMS = ("Who {v} {x}?", "How do I {w} {x}?", "Write an essay about {x}.", "What is the best {n}?", "Who invented {x}?",
                 "When was {x} {v}?", "Translate {x} into {l}.", "Write a {n} program that can {w} {x}.", "Why is {x} so {j}?",
                 "How much does {x} cost?", "Who is the president of {x}?", "Where can I buy {x}?", "How old is {x}?",
                 "Summarize {x}.", "What is {x}?", "Tell me about {x}.", "Give me a recipe for {x}.", "What happened in {y}?", "Which {n} should I use for {x}?")
UNKNOWN_WORDS = {
    "v": ("built", "wrote", "painted", "discovered", "won", "founded", "sold"),
    "w": ("install", "repair", "cook", "sell", "compile", "clean", "open", "draw", "sort", "win"),
    "x": ("the telephone", "a car", "quantum physics", "the moon", "a bicycle", "the stock market", "a database", "lasagna", "the piano",
          "a house", "the internet", "Rust", "Linux", "the economy", "a guitar", "the brain", "Shakespeare", "the government", "football",
          "a passport", "an email", "the printer", "the company", "chess", "Java", "a spaceship", "medicine", "philosophy"),
    "n": ("movie", "book", "phone", "database", "framework", "restaurant", "song", "sorting", "web", "laptop", "language"),
    "l": ("French", "German", "Spanish", "Latin", "Japanese"),
    "j": ("big", "expensive", "hard", "famous", "slow", "important"),
    "y": ("1492", "1789", "1815", "1914", "1945", "1969", "1989", "2001", "2020"),
}


def technical(rng: random.Random) -> Turn:
    topic = rng.choice(TECHNICAL)
    name = topic.names[0] if rng.random() < 0.6 else rng.choice(topic.names)
    return Turn(rng.choice(ASK_TERM).format(name), rng.choice(topic.answers))


def fixed(rng: random.Random) -> Turn:
    questions, answer = rng.choice(FIXED)
    return Turn(rng.choice(questions), answer)


def small_talk(rng: random.Random) -> Turn:
    questions, answers = rng.choice(SMALL_TALK)
    return Turn(rng.choice(questions), rng.choice(answers))


def unknown(rng: random.Random) -> Turn:
    words = {key: rng.choice(values) for key, values in UNKNOWN_WORDS.items()}
    if rng.random() < 0.4:
        words["x"] = rng.choice(("{}", "a {}", "the {}")).format(made_up_word(rng))
    return Turn(rng.choice(UNKNOWN_FORMS).format(**words), rng.choice(UNKNOWN_ANSWERS))


def capital(rng: random.Random) -> Turn:
    country, city = rng.choice(list(CAPITALS.items()))
    if rng.random() < 0.2:
        return Turn(rng.choice((f"Which country has the capital {city}?", f"{city} is the capital of which country?")),
                    f"{city} is the capital of {country}.")
    return Turn(rng.choice((f"What is the capital of {country}?", f"What is the capital of {country}?", f"Which city is the capital of {country}?",
                            f"Do you know the capital of {country}?", f"Name the capital of {country}.", f"what is the capital of {country}")),
                f"The capital of {country} is {city}.")


def colour(rng: random.Random) -> Turn:
    thing, hue = rng.choice(list(COLOURS.items()))
    ask = rng.choice((f"What colour is {thing}?", f"What color is {thing}?", f"Which colour has {thing}?", f"Tell me the colour of {thing}."))
    return Turn(ask, f"{thing[0].upper() + thing[1:]} is {hue}.")


def animal(rng: random.Random) -> Turn:
    x = rng.choice(ANIMALS)
    one = a(x.name)
    legs = "no" if x.legs == 0 else NUMBERS[x.legs]
    question, answer = rng.choice((
        (f"Where does {one} live?", f"{one.capitalize()} lives in {a(x.home)}." if x.home not in ("ice", "grass") else f"{one.capitalize()} lives on the {x.home}."),
        (f"What does {one} eat?", f"{one.capitalize()} eats {x.food}."),
        (f"What can {one} do?", f"{one.capitalize()} can {x.skill}."),
        (f"How many legs does {one} have?", f"{one.capitalize()} has {legs} legs."),
        (f"What colour is {one}?", f"{one.capitalize()} is {x.colour}."),
        (f"Tell me about the {x.name}.", f"The {x.name} is {x.colour}. It eats {x.food}, and it can {x.skill}."),
        (f"What do you know about {one}?", f"The {x.name} is {x.colour}. It eats {x.food}, and it can {x.skill}."),
    ))
    return Turn(question, answer)


def arithmetic(rng: random.Random) -> Turn:
    """Sums up to 20, differences, and the small times table, in digits or in words."""
    kind = rng.random()
    if kind < 0.5:
        x, y = rng.randint(0, 10), rng.randint(0, 10)
        sign, word, result = "+", "plus", x + y
    elif kind < 0.8:
        x = rng.randint(0, 12)
        y = rng.randint(0, x)
        sign, word, result = "-", "minus", x - y
    else:
        x, y = rng.randint(0, 5), rng.randint(0, 5)
        sign, word, result = "*", "times", x * y
    if rng.random() < 0.3 and result <= 20:
        left, right, total = NUMBERS[x], NUMBERS[y], NUMBERS[result]
        return Turn(f"What is {left} {word} {right}?", f"{left.capitalize()} {word} {right} is {total}.")
    spoken = rng.choice((word, sign)) if sign != "*" else rng.choice((word, "*", "x"))
    ask = rng.choice(("What is {}?", "What is {}?", "How much is {}?", "{} = ?", "Calculate {}.", "{}"))
    return Turn(ask.format(f"{x} {spoken} {y}"), f"{x} {word} {y} is {result}.")


def opposite(rng: random.Random) -> Turn:
    first, second = rng.choice(OPPOSITES)
    if rng.random() < 0.5 and first != "young":
        first, second = (second, first) if second != "old" else (first, second)
    return Turn(rng.choice((f"What is the opposite of {first}?", f"What is the opposite of {first}?", f"Tell me the opposite of {first}.")),
                f"The opposite of {first} is {second}.")


def calendar(rng: random.Random) -> Turn:
    names, word, unit = rng.choice(((DAYS, "day", "week"), (MONTHS, "month", "year")))
    i = rng.randrange(len(names))
    after, before = names[(i + 1) % len(names)], names[i - 1]
    question, answer = rng.choice((
        (f"Which {word} comes after {names[i]}?", f"After {names[i]} comes {after}."),
        (f"What {word} comes after {names[i]}?", f"After {names[i]} comes {after}."),
        (f"Which {word} comes before {names[i]}?", f"Before {names[i]} comes {before}."),
        (f"How many {word}s are there in a {unit}?", f"There are {NUMBERS[len(names)]} {word}s in a {unit}."),
        (f"Name the {word}s of the {unit}.", f"The {word}s of the {unit} are {', '.join(names[:-1])} and {names[-1]}."),
        (f"What is the first {word} of the {unit}?", f"The first {word} of the {unit} is {names[0]}."),
        (f"What is the last {word} of the {unit}?", f"The last {word} of the {unit} is {names[-1]}."),
    ))
    return Turn(question, answer)


def counting(rng: random.Random) -> Turn:
    start = rng.choice((1, 1, 1, rng.randint(1, 10)))
    stop = start + rng.randint(2, 10)
    if rng.random() < 0.3:
        n = rng.randint(0, 19)
        return Turn(f"What number comes after {n}?", f"After {n} comes {n + 1}.")
    ask = f"Count to {stop}." if start == 1 else f"Count from {start} to {stop}."
    return Turn(ask, ", ".join(str(n) for n in range(start, stop + 1)) + ".")


def listing(rng: random.Random) -> Turn:
    """Lists of a given length: the model has to count its items."""
    count = rng.randint(2, 5)
    what, pool = rng.choice((("colours", COLOUR_NAMES), ("animals", tuple(x.name for x in ANIMALS)),
                             ("cities", tuple(CAPITALS.values())), ("fruits", ("apple", "pear", "plum", "cherry", "banana", "orange", "lemon"))))
    items = rng.sample(pool, count)
    return Turn(rng.choice((f"Name {NUMBERS[count]} {what}.", f"Tell me {NUMBERS[count]} {what}.", f"Give me {NUMBERS[count]} {what}.")),
                f"{NUMBERS[count].capitalize()} {what} are {', '.join(items[:-1])} and {items[-1]}.")


# Each generator with its share of the questions.
GENERATORS: tuple[tuple[Callable[[random.Random], Turn], float], ...] = (
    (technical, 26), (fixed, 6), (small_talk, 16), (unknown, 7), (capital, 11), (colour, 6), (animal, 9), (arithmetic, 9),
    (opposite, 5), (calendar, 6), (counting, 3), (listing, 4),
)


def question(rng: random.Random) -> Turn:
    """One question on any subject."""
    generators, weights = zip(*GENERATORS)
    return rng.choices(generators, weights)[0](rng)
