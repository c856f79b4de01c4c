"""Short stories with a cast that stays the same from the first sentence to the last.

A story is one of a dozen plots. A plot is a function that returns paragraphs; each sentence is drawn from a few
wordings, so that the model sees far more surface forms than plots.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Callable

from .lexicon import (ANIMALS, BOY_NAMES, CRAFTS, FOODS, GIRL_NAMES, HIDING, NATURE, PEOPLE, PLACES, SKILLS, TREASURES,
                      WEATHER, a)


@dataclass
class Hero:
    """A character: what it is, its name and its pronouns."""

    kind: str
    name: str
    he: str
    nature: str
    him: str = field(init=False)
    his: str = field(init=False)

    def __post_init__(self) -> None:
        self.him, self.his = ("him", "his") if self.he == "he" else ("her", "her")

    @property
    def He(self) -> str:
        return self.he.capitalize()

    @property
    def His(self) -> str:
        return self.his.capitalize()


@dataclass
class Cast:
    """Everything a plot may name. `one_of` draws a wording; all randomness comes from `rng`."""

    rng: random.Random
    hero: Hero
    friend: Hero
    place: str
    thing: str
    hiding: str
    food: str
    craft: str
    skill: tuple[str, str]
    weather: tuple[str, str]

    def one_of(self, *wordings: str) -> str:
        return self.rng.choice(wordings)

    def maybe(self, sentence: str, chance: float = 0.5) -> str:
        return sentence if self.rng.random() < chance else ""


def make_hero(rng: random.Random, kind: str | None = None, name: str | None = None, avoid: Hero | None = None) -> Hero:
    """A character of the given kind (any when None) who shares neither kind nor name with `avoid`."""
    animal_kinds = [animal.name for animal in ANIMALS]
    while True:
        chosen = kind or (rng.choice(animal_kinds) if rng.random() < 0.65 else rng.choice(PEOPLE)[0])
        pronouns = [he for person, he in PEOPLE if person == chosen] or ["he", "she"]
        if name is not None:
            pronouns = ["he"] if name in BOY_NAMES else ["she"]
        he = rng.choice(pronouns)
        given = name or rng.choice(BOY_NAMES if he == "he" else GIRL_NAMES)
        if avoid is None or (chosen != avoid.kind and given != avoid.name):
            return Hero(chosen, given, he, rng.choice(NATURE))


def make_cast(rng: random.Random, kind: str | None = None, name: str | None = None, thing: str | None = None,
              place: str | None = None, friend_kind: str | None = None) -> Cast:
    hero = make_hero(rng, kind, name)
    friend = make_hero(rng, friend_kind, avoid=hero)
    return Cast(rng, hero, friend, place or rng.choice(PLACES), thing or rng.choice(TREASURES), rng.choice(HIDING),
                rng.choice(FOODS), rng.choice(CRAFTS), rng.choice(SKILLS), rng.choice(WEATHER))


def opening(c: Cast, formal: bool) -> str:
    """Introduces the hero and the place; `formal` openings are the fairy-tale ones."""
    h, who = c.hero, f"{a(c.hero.nature + ' ' + c.hero.kind)} named {c.hero.name}"
    if formal:
        first = c.one_of(f"Once upon a time, there was {who}. {h.He} lived in {c.place}.",
                         f"Once upon a time, {who} lived in {c.place}.",
                         f"Once upon a time, in {c.place}, there lived {who}.",
                         f"Once upon a time there was {who} who lived in {c.place}.")
    else:
        first = c.one_of(f"There was once {who}. {h.He} lived in {c.place}.",
                         f"In {c.place} there lived {who}.",
                         f"Long ago, {who} lived in {c.place}.",
                         f"{h.name} was {a(h.nature + ' ' + h.kind)}. {h.He} lived in {c.place}.",
                         f"This is the story of {who}. {h.He} lived in {c.place}.",
                         f"Far away, in {c.place}, lived {who}.")
    animal = next((x for x in ANIMALS if x.name == h.kind), None)
    if animal is None:
        detail = c.one_of(f"Every morning {h.he} drank a cup of tea and looked out of the window.",
                          f"{h.He} loved {c.food} more than anything else.",
                          f"Everybody liked {h.name}, because {h.he} was always ready to help.")
    else:
        detail = c.one_of(f"{h.He} liked to eat {animal.food}.",
                          f"{h.He} could {animal.skill}.",
                          f"Nobody could {animal.skill} like {h.name}.")
    return f"{first} {c.maybe(detail, 0.7)}"


def one_day(c: Cast) -> str:
    """The turn from the opening to the plot, with the weather."""
    when = c.one_of("One day", "One morning", "One afternoon", "One " + c.weather[0] + " day", "One " + c.weather[0] + " morning")
    return c.maybe(f"It was {a(c.weather[0])} day. {c.weather[1]}. ", 0.3) + when


def meets(c: Cast) -> str:
    """The hero runs into the friend."""
    h, f = c.hero, c.friend
    return c.one_of(f"On the way {h.he} met {f.name}, {a(f.nature + ' ' + f.kind)}.",
                    f"Soon {h.he} met {a(f.kind)} named {f.name}.",
                    f"Then {f.name} the {f.kind} came by.",
                    f"Just then, {a(f.nature + ' ' + f.kind)} named {f.name} came along.")


def moral(c: Cast, *lessons: str) -> str:
    """The last sentences: a lesson, a meal together, the end of the day."""
    h, f = c.hero, c.friend
    close = c.one_of(f"That evening {h.name} and {f.name} ate {c.food} together and laughed.",
                     f"{h.name} went home with a happy heart.",
                     f"From that day on, {h.name} and {f.name} were the best of friends.",
                     f"And {h.name} and {f.name} lived happily ever after.",
                     f"That night {h.name} slept very well.",
                     f"They were friends for ever after.")
    lesson = c.one_of(*lessons)
    return c.one_of(f"{lesson} {close}", f"{close} {lesson}", close, f"{close} The end.", f"{lesson} {close} The end.")


def lost_thing(c: Cast) -> list[str]:
    h, f, t = c.hero, c.friend, c.thing
    return [
        c.one_of(f"{one_day(c)}, {h.name} lost {h.his} {t}.", f"{one_day(c)}, {h.name} could not find {h.his} {t}.",
                 f"{h.name} had {a(t)} that {h.he} loved very much. {one_day(c)}, the {t} was gone.") + " "
        + c.one_of(f"{h.He} looked everywhere, but it was gone.", f"{h.He} looked under the bed and behind the door, but it was not there.",
                   f"{h.He} was so sad that {h.he} began to cry.", f'"Where is my {t}?" said {h.name}.'),
        meets(c) + " "
        + c.one_of(f'"Why are you so sad?" asked {f.name}.', f'"What is wrong?" asked {f.name}.', f'"Can I help you?" asked {f.name}.') + " "
        + c.one_of(f'"I have lost my {t}," said {h.name}.', f'"I cannot find my {t}," said {h.name}.') + " "
        + c.one_of(f'"Do not worry," said {f.name}. "We will look for it together."', f'"I will help you," said {f.name}. "Two can see more than one."',
                   f'"Let us look for it together," said {f.name}.'),
        c.one_of("They looked and looked.", "They looked in the house and in the garden.", "They walked a long way.", "They looked for a long time.") + " "
        + c.one_of(f"At last they found the {t} {c.hiding}.", f"Then {f.name} saw something {c.hiding}. It was the {t}!",
                   f"{c.hiding.capitalize()}, {f.name} found the {t}.", f'"Look!" said {f.name}. The {t} was {c.hiding}.') + " "
        + c.one_of(f'"Thank you, {f.name}!" said {h.name}.', f"{h.name} was very happy and thanked {f.name}.", f'"You are a true friend," said {h.name}.'),
        moral(c, f"{h.name} learned that a good friend is worth more than {a(t)}.", f"{h.name} was never careless with the {t} again.",
              f"{h.name} knew that it is easier to look for things together."),
    ]


def storm(c: Cast) -> list[str]:
    h, f = c.hero, c.friend
    return [
        c.one_of("One night there was a great storm.", "One evening dark clouds came over the hills.", "One day a big storm came.") + " "
        + c.one_of("The wind was loud and the rain fell hard.", "The thunder was loud and the wind shook the trees.", "Rain fell all night and the river began to rise.") + " "
        + c.one_of(f"{h.name} was safe and warm at home.", f"{h.name} closed all the windows and lit a lamp.", f"{h.name} sat by the fire and listened."),
        c.one_of(f"Then {h.he} heard a knock at the door.", f"Suddenly {h.he} heard somebody call for help.", f"Then there was a small voice outside.") + " "
        + c.one_of(f"It was {f.name}, {a(f.nature + ' ' + f.kind)}, cold and wet.", f"It was {a(f.kind)} named {f.name}. {f.He} was cold and afraid.") + " "
        + c.one_of(f'"My home is under water," said {f.name}. "May I stay here?"', f'"The wind has taken my roof," said {f.name}. "I have no place to sleep."',
                   f'"I have lost my way," said {f.name}. "Please help me."'),
        c.one_of(f'"Come in," said {h.name}. "There is room for two."', f'"Of course," said {h.name}. "Come in and sit by the fire."') + " "
        + c.one_of(f"{h.He} gave {f.him} a warm blanket and some {c.food}.", f"{h.He} made some {c.food}, and they ate together.",
                   f"{h.name} gave {f.name} dry clothes and a cup of hot tea.") + " "
        + c.one_of("All night they told each other stories.", "Soon they were both fast asleep.", "The storm was loud, but they were not afraid."),
        c.one_of("In the morning the storm was over.", "When the sun came up, the sky was clear.", "The next day the sun was shining again.") + " "
        + c.one_of(f"{h.name} helped {f.name} to build a new home.", f"{h.name} showed {f.name} the way home.", f"Together they repaired the roof of {f.name}'s house.") + " "
        + moral(c, f"{h.name} learned that a warm home is even warmer with a friend.", "A friend in need is a friend indeed.",
                "Helping others makes the heart warm."),
    ]


def learning(c: Cast) -> list[str]:
    h, f, (skill, done) = c.hero, c.friend, c.skill
    return [
        c.one_of(f"{h.name} wanted to learn to {skill}.", f"More than anything, {h.name} wanted to {skill}.", f"{h.name} had one big dream. {h.He} wanted to {skill}.") + " "
        + c.one_of(f"But {h.he} did not know how.", f"But every time {h.he} tried, it went wrong.", f"{h.He} tried once, and it did not work. {h.He} tried again, and it did not work.") + " "
        + c.one_of(f'"I will never learn it," said {h.name}.', f'"It is too hard for me," {h.he} said.', f"{h.name} was sad and wanted to give up."),
        meets(c) + " "
        + c.one_of(f'"Nobody can do it on the first day," said {f.name}. "Try a little every day."', f'"I can teach you," said {f.name}. "But you must be patient."',
                   f'"When I was young, I could not {skill} either," said {f.name}. "Let us practise together."'),
        c.one_of("So they practised every day.", f"So {h.name} practised every morning and every evening.", "Every day they met and practised.") + " "
        + c.one_of("On the first day it was hard. On the second day it was a little easier.", f"Sometimes {h.name} fell down, but {h.he} always got up again.",
                   f"{h.name} made many mistakes, but {h.he} did not stop.", "Day after day it became a little easier."),
        c.one_of("At last the great day came.", "After many days it was time to try.", f"One day {h.name} was ready.") + " "
        + c.one_of(f"{h.name} took a deep breath and {done}.", f"Everybody was watching. {h.name} {done}!", f"{h.name} was a little afraid, but {h.he} {done}.") + " "
        + c.one_of(f'"You did it!" said {f.name}.', f"{f.name} was very proud of {h.him}.", f'Everybody cheered, and {f.name} cheered the loudest.') + " "
        + moral(c, f"{h.name} learned that you must never give up.", "Practice makes things easy.", f"{h.name} learned that small steps lead far."),
    ]


def sharing(c: Cast) -> list[str]:
    h, f = c.hero, c.friend
    return [
        c.one_of(f"{one_day(c)}, {h.name} made some {c.food}.", f"{one_day(c)}, {h.name} had a basket with some {c.food}.") + " "
        + c.one_of("It smelled wonderful.", f'"This is all for me," said {h.name}.', f"{h.name} was hungry and wanted to eat it all."),
        meets(c) + " "
        + c.one_of(f"{f.He} had not eaten all day.", f"{f.He} looked tired and hungry.", f"{f.He} was so hungry that {f.he} could not walk any more.") + " "
        + c.one_of(f'"May I have a little?" asked {f.name}.', f'"That smells so good," said {f.name}.', f'"Please, can you give me something to eat?" asked {f.name}.'),
        c.one_of(f"{h.name} thought about it for a moment.", f"At first {h.name} wanted to say no.", f"{h.name} looked at {f.name} and then at the food.") + " "
        + c.one_of(f'Then {h.he} smiled. "Let us share it," {h.he} said.', f'"Sit down with me," said {h.name}. "There is enough for two."',
                   f"Then {h.he} gave half of it to {f.name}.") + " "
        + c.one_of("They sat in the sun and ate together.", "It tasted better than ever.", f"{f.name} was so happy that {f.he} danced."),
        c.one_of(f"The next week {f.name} came back with a gift. It was {a(c.thing)}.", f"A few days later {f.name} brought {a(c.thing)} for {h.name}.",
                 f"Then {f.name} gave {h.him} {a(c.thing)} to say thank you.") + " "
        + moral(c, "Things taste better when you share them.", f"{h.name} learned that sharing makes two people happy.", "Who gives will also receive."),
    ]


def building(c: Cast) -> list[str]:
    h, f, x = c.hero, c.friend, c.craft
    return [
        c.one_of(f"{one_day(c)}, {h.name} had an idea.", f"{one_day(c)}, {h.name} woke up with a plan.") + " "
        + c.one_of(f'"I will build {a(x)}," {h.he} said.', f"{h.He} wanted to make {a(x)}.") + " "
        + c.one_of(f"{h.He} took some wood, a hammer and a box of nails.", f"{h.He} worked all morning, but it was too much for one.", "But it was hard work."),
        meets(c) + " "
        + c.one_of(f'"What are you making?" asked {f.name}.', f'"That is a lot of work," said {f.name}.') + " "
        + c.one_of(f'"I am making {a(x)}," said {h.name}. "Will you help me?"', f'"I want to build {a(x)}," said {h.name}, "but I cannot do it alone."') + " "
        + c.one_of(f'"Yes," said {f.name}, "I like to make things."', f'"I am happy to help," said {f.name}.'),
        c.one_of(f"{h.name} cut the wood, and {f.name} held it.", f"{f.name} brought the wood, and {h.name} used the hammer.", f"{h.name} had good ideas, and {f.name} had strong hands.") + " "
        + c.one_of("They worked until the sun went down.", "They worked for three days.", "It took a long time, but they did not stop.") + " "
        + c.one_of(f"Then one part broke, and they had to start again.", f"Once it fell down, but they only laughed and built it again.", "Piece by piece it grew."),
        c.one_of(f"At last the {x} was ready.", f"In the end the {x} was finished.") + " "
        + c.one_of("It was beautiful.", "It was better than they had hoped.", "Everybody came to see it.") + " "
        + c.one_of(f'"We made it together," said {h.name}.', f'"It is the best {x} in the world," said {f.name}.') + " "
        + moral(c, "Many hands make light work.", f"{h.name} learned that two can do more than one.", "Good things take time."),
    ]


def afraid(c: Cast) -> list[str]:
    h, f = c.hero, c.friend
    fear, how = c.rng.choice((("the dark", "The dark is only the day with its eyes closed"), ("thunder", "Thunder is loud, but it cannot hurt you"),
                              ("deep water", "We will stay where we can stand"), ("high places", "Do not look down, look at me"),
                              ("the old house", "It is only an old house with an old door")))
    return [
        c.one_of(f"{h.name} was afraid of {fear}.", f"There was only one thing that {h.name} did not like. {h.He} was afraid of {fear}.") + " "
        + c.one_of(f"{h.He} told nobody about it.", f"The others laughed at {h.him}, and that made {h.him} sad.", f"Because of that, {h.he} often stayed at home."),
        f"{one_day(c)}, " + c.one_of(f"{f.name} the {f.kind} asked {h.him} to come along.", f"{a(f.kind)} named {f.name} asked {h.him} to go for a walk.") + " "
        + c.one_of(f'"I cannot go," said {h.name}. "I am afraid of {fear}."', f'"I am sorry," said {h.name}. "I am too afraid of {fear}."') + " "
        + c.one_of(f"{f.name} did not laugh.", f"{f.name} sat down beside {h.him}.", f"{f.name} took {h.his} hand.") + " "
        + f'"{how}," said {f.name}.',
        c.one_of("So they went together, one small step after another.", f"{h.name} held on to {f.name} and closed {h.his} eyes.", f"{h.name} counted to ten and went with {f.him}.") + " "
        + c.one_of(f"{h.His} heart was beating fast.", "At first it was terrible.", f"{h.He} was still afraid, but {h.he} did not run away.") + " "
        + c.one_of("But nothing bad happened.", f"Then {h.he} saw that there was nothing to fear.", f"After a while {h.he} even began to smile."),
        c.one_of(f'"I did it!" said {h.name}.', f'"It was not so bad," said {h.name}.', f'"Can we do it again?" asked {h.name}.') + " "
        + moral(c, f"{h.name} learned that to be brave is to be afraid and to go on.", "Fear grows small when you share it with a friend.",
                f"After that, {h.name} was never afraid of {fear} again."),
    ]


def secret_gift(c: Cast) -> list[str]:
    h, f, t = c.hero, c.friend, c.thing
    return [
        f"{one_day(c)}, " + c.one_of(f"it was the birthday of {f.name}, the {f.kind} next door.", f"{h.name} remembered that it was the birthday of {f.name} the {f.kind}.") + " "
        + c.one_of(f"{h.name} wanted to give {f.him} a gift, but {h.he} had no money.", f'"What can I give {f.him}?" thought {h.name}.', f"{h.name} did not know what to give {f.him}."),
        c.one_of(f"{h.He} walked around and thought hard.", f"{h.He} looked in every shop in the street.") + " "
        + c.one_of(f"Then, {c.hiding}, {h.he} found {a(t)}.", f"Then {h.he} saw {a(t)} {c.hiding}.") + " "
        + c.one_of("It was old and dirty, but it was still good.", f"Nobody was looking for it. {h.name} asked everyone.", "It only needed a little care.") + " "
        + c.one_of(f"{h.name} cleaned it until it was shining.", f"{h.name} took it home, cleaned it and put it in a box."),
        c.one_of(f"In the evening {h.he} went to {f.name}.", f"Then {h.he} knocked at the door of {f.name}.") + " "
        + c.one_of(f'"Happy birthday!" said {h.name}.', f'"This is for you," said {h.name}.') + " "
        + c.one_of(f"{f.name} opened the box and saw the {t}.", f"When {f.name} saw the {t}, {f.he} could not say a word.") + " "
        + c.one_of(f'"It is the best gift of all," {f.he} said.', f'"I always wanted {a(t)}," {f.he} said.', f'"You made my day," {f.he} said.'),
        moral(c, "A gift does not have to be new. It has to come from the heart.", f"{h.name} learned that a kind thought is the best gift.",
              "To give is as sweet as to receive."),
    ]


def race(c: Cast) -> list[str]:
    h, f = c.hero, c.friend
    return [
        f"{one_day(c)}, " + c.one_of("there was a great race.", "everybody came together for the big race.") + " "
        + c.one_of(f"{h.name} wanted to win more than anything.", f"{h.name} was sure that {h.he} would win.", f"{h.name} had waited for this day all year.") + " "
        + c.one_of(f"{f.name}, {a(f.kind)}, wanted to win too.", f"Next to {h.him} stood {f.name}, {a(f.nature + ' ' + f.kind)}."),
        c.one_of('"One, two, three, go!" called the old owl.', "A bell rang, and off they went.", "Then the race began.") + " "
        + c.one_of(f"{h.name} was fast. Soon {h.he} was in front.", f"{h.name} and {f.name} ran side by side.", f"At first {f.name} was in front, but {h.name} came closer and closer.") + " "
        + c.one_of(f"Then {h.he} heard a cry. {f.name} had fallen and could not get up.", f"But then {f.name} fell over a stone and hurt {f.his} foot."),
        c.one_of(f"{h.name} could see the end of the race. It was so near.", f"{h.name} stopped. What should {h.he} do?", f'"Go on!" called {f.name}. "You can still win!"') + " "
        + c.one_of(f"But {h.he} turned around and helped {f.name} to stand up.", f"{h.name} went back and gave {f.name} a hand.") + " "
        + c.one_of("They walked to the end together, and they were the last.", "Side by side they came to the end, long after all the others."),
        c.one_of("But everybody cheered for them.", "And yet the people cheered louder than ever.") + " "
        + c.one_of(f'"You did not win the race," said the old owl, "but you have won a friend."', f"{h.name} did not get the prize, but {h.he} was not sad.") + " "
        + moral(c, "A friend is better than a prize.", f"{h.name} learned that winning is not everything.", "Kindness is the best prize."),
    ]


def map_adventure(c: Cast) -> list[str]:
    h, f, t = c.hero, c.friend, c.thing
    where = c.rng.choice(("the dark forest", "the high mountain", "the deep cave", "the lonely island", "the old tower"))
    return [
        f"{one_day(c)}, {h.name} found an old map " + c.one_of("in a bottle.", "in a box.", f"{c.hiding}.", "inside an old book.") + " "
        + c.one_of(f"It showed the way to {where}.", f"On the map there was a red cross near {where}.") + " "
        + c.one_of(f'"There must be a treasure," said {h.name}.', f"{h.name} wanted to know what was hidden there."),
        c.one_of(f"{h.He} asked {f.name} the {f.kind} to come along.", f"{h.His} friend {f.name}, {a(f.kind)}, came with {h.him}.") + " "
        + c.one_of("They took some bread, a rope and a lamp.", f"They packed some {c.food} and a lamp.") + " "
        + c.one_of("They walked over hills and through valleys.", "They walked for two days and slept under the stars.", "The way was long, but they sang songs."),
        c.one_of(f"At last they came to {where}.", f"In the evening they reached {where}.") + " "
        + c.one_of("It was quiet and a little scary.", "Nobody was there.", f'"I am a little afraid," said {f.name}. "Me too," said {h.name}, "but we are together."') + " "
        + c.one_of("They began to dig.", "They looked behind every stone.", "They lit the lamp and went on.") + " "
        + c.one_of(f"There it was, a small wooden box! Inside was {a(t)}.", f"Under a flat stone they found {a(t)}.") + " "
        + c.one_of('With it was a letter: "The real treasure is the friend who came with you."', f'"It is not gold," said {f.name}, "but it is ours."',
                   f'"What a wonderful treasure," said {h.name}.'),
        moral(c, f"{h.name} learned that the way is as good as the treasure.", f"And {h.name} kept the {t} for ever.", "The best adventures are the ones you share."),
    ]


def lie(c: Cast) -> list[str]:
    h, f, t = c.hero, c.friend, c.thing
    return [
        c.one_of(f"{f.name}, {a(f.kind)}, had {a(t)}.", f"{h.His} friend {f.name}, {a(f.kind)}, had {a(t)}.") + " "
        + f"{one_day(c)}, " + c.one_of(f"{h.name} played with it, and it broke.", f"{h.name} took it without asking and broke it."),
        c.one_of(f'"Who broke my {t}?" asked {f.name}.', f'"What happened to my {t}?" asked {f.name}.') + " "
        + c.one_of(f"{h.name} was afraid to tell the truth.", f"{h.name} looked at the ground.") + " "
        + c.one_of('"It was the wind," ' + h.he + " said.", '"I do not know," ' + h.he + " said.") + " "
        + c.one_of(f"{f.name} believed {h.him} and was very sad.", f"{f.name} said nothing and went home."),
        c.one_of(f"That night {h.name} could not sleep.", f"But {h.name} felt bad. {h.He} could not eat and could not play.") + " "
        + c.one_of(f"In the morning {h.he} went to {f.name}.", f"The next day {h.he} knocked at the door of {f.name}.") + " "
        + c.one_of(f'"I broke your {t}," said {h.name}. "I am sorry."', f'"It was not true what I said," {h.he} told {f.him}. "I broke the {t}. I am very sorry."'),
        c.one_of(f'"Thank you for telling me the truth," said {f.name}.', f'"I am not angry any more," said {f.name}. "It is good that you told me."') + " "
        + c.one_of(f"Together they repaired the {t}.", f"They repaired the {t}, and it was as good as new.") + " "
        + moral(c, f"{h.name} learned that it is best to tell the truth.", "The truth is hard to say, but a lie is harder to carry.",
                f"{h.name} never told a lie again."),
    ]


def new_friend(c: Cast) -> list[str]:
    h, f = c.hero, c.friend
    return [
        c.one_of(f"{h.name} was often alone.", f"{h.name} had everything {h.he} needed, but {h.he} had no friend.", f"But {h.name} was lonely.") + " "
        + c.one_of(f'"I wish I had somebody to play with," {h.he} said.', f"In the evening {h.he} looked at the stars and made a wish."),
        f"{one_day(c)}, " + c.one_of(f"somebody new came to live nearby. It was {a(f.kind)} named {f.name}.", f"{h.he} saw {a(f.nature + ' ' + f.kind)} who was sitting {c.hiding}.") + " "
        + c.one_of(f'"Hello," said {h.name}. "What is your name?" "My name is {f.name}," said the {f.kind}.',
                   f'"My name is {h.name}," said {h.name}. "And I am {f.name}," said the {f.kind}.'),
        c.one_of(f'"Do you want to play with me?" asked {h.name}.', f'"Shall I show you around?" asked {h.name}.', f'"Do you like {c.food}?" asked {h.name}.') + " "
        + c.one_of(f'"Oh yes!" said {f.name}. "I would love that."', f'"Yes, please," said {f.name} and smiled.') + " "
        + c.one_of(f"They played all day with {a(c.thing)}.", "They ran, they laughed and they told each other stories.", f"They ate {c.food} and talked until the stars came out."),
        c.one_of(f"{h.name} was not lonely any more.", f"Now {h.name} had a friend.") + " "
        + moral(c, f"{h.name} learned that a kind word can open every door.", "A new friend is only one hello away.", "The wish had come true."),
    ]


def watchman(c: Cast) -> list[str]:
    """A tale about the server's own subject: somebody who reports the truth."""
    h, f = c.hero, c.friend
    return [
        c.one_of(f"{h.name} was the keeper of the lighthouse.", f"{h.name} was the watchman of the town.", f"{h.name} looked after the old mill.") + " "
        + c.one_of(f"Every evening people asked, \"Is all well?\"", "Every hour somebody asked if all was well.") + " "
        + c.one_of(f"{h.name} always went to look before {h.he} answered.", f"{h.name} never answered before {h.he} had looked."),
        f"{one_day(c)}, {f.name} the {f.kind} said, " + c.one_of('"Why do you always look? Just say yes."', '"It would be faster to always say yes."') + " "
        + c.one_of(f'"A yes without a look is worth nothing," said {h.name}.', f'"If I do not look, I do not know," said {h.name}.'),
        c.one_of("That night the lamp went out.", "That night a rope broke.", "That night the water began to rise.") + " "
        + c.one_of(f"{h.name} saw it at once and rang the bell.", f"Because {h.he} looked, {h.name} saw it at once.") + " "
        + c.one_of("Everybody came and helped, and soon all was well again.", "Everybody came to help, and nobody was hurt."),
        c.one_of(f'"Now I understand," said {f.name}.', f'"You were right," said {f.name}.') + " "
        + moral(c, "An honest answer comes from a careful look.", f"{f.name} learned that trust must be earned every day.", "It is better to look than to guess."),
    ]


Plot = Callable[[Cast], list[str]]

PLOTS: dict[str, Plot] = {
    "a lost {thing}": lost_thing, "a storm": storm, "learning something new": learning, "sharing": sharing,
    "building {craft}": building, "being brave": afraid, "a birthday": secret_gift, "a race": race,
    "a treasure map": map_adventure, "telling the truth": lie, "friendship": new_friend, "a watchman": watchman,
}


def tell(cast: Cast, plot: Plot, formal: bool, paragraphs: bool) -> str:
    """The whole story as text; `paragraphs` puts blank lines between its parts."""
    parts = [opening(cast, formal), *plot(cast)]
    texts = [" ".join(part.split()) for part in parts if part]
    texts = [text[0].upper() + text[1:] for text in texts]
    return ("\n\n" if paragraphs else " ").join(texts)


def random_story(rng: random.Random) -> str:
    """A story on any theme; seven in ten open with "Once upon a time"."""
    return tell(make_cast(rng), rng.choice(list(PLOTS.values())), rng.random() < 0.7, rng.random() < 0.25)
