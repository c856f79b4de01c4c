"""The words from which the stories and the chats are made. All lists were written for this project."""

from __future__ import annotations

import random
from typing import NamedTuple


class Animal(NamedTuple):
    """One animal: what it looks like, where it lives, what it eats, what it does well."""

    name: str
    colour: str
    home: str
    food: str
    skill: str
    sound: str
    legs: int


ANIMALS = (
    Animal("fox", "red", "den", "berries", "run very fast", "bark", 4),
    Animal("rabbit", "white", "burrow", "carrots", "jump very high", "squeak", 4),
    Animal("bear", "brown", "cave", "honey", "climb tall trees", "growl", 4),
    Animal("owl", "grey", "hollow tree", "mice", "see in the dark", "hoot", 2),
    Animal("mouse", "grey", "hole", "cheese", "hide in small places", "squeak", 4),
    Animal("cat", "black", "house", "fish", "walk without a sound", "meow", 4),
    Animal("dog", "brown", "kennel", "bones", "find things by their smell", "bark", 4),
    Animal("duck", "yellow", "pond", "bread", "swim all day", "quack", 2),
    Animal("frog", "green", "pond", "flies", "jump from leaf to leaf", "croak", 4),
    Animal("squirrel", "red", "nest", "nuts", "leap from tree to tree", "chatter", 4),
    Animal("hedgehog", "brown", "nest of leaves", "apples", "roll into a ball", "snuffle", 4),
    Animal("deer", "brown", "forest", "grass", "run through the trees", "bleat", 4),
    Animal("wolf", "grey", "den", "meat", "run all night", "howl", 4),
    Animal("horse", "brown", "stable", "hay", "carry heavy bags", "neigh", 4),
    Animal("cow", "white", "barn", "grass", "give fresh milk", "moo", 4),
    Animal("sheep", "white", "meadow", "grass", "grow warm wool", "bleat", 4),
    Animal("pig", "pink", "sty", "corn", "find roots in the mud", "oink", 4),
    Animal("goat", "white", "hill", "leaves", "climb steep rocks", "bleat", 4),
    Animal("hen", "brown", "coop", "seeds", "lay fresh eggs", "cluck", 2),
    Animal("bee", "yellow", "hive", "nectar", "make sweet honey", "buzz", 6),
    Animal("ant", "black", "hill", "crumbs", "carry big things", "march", 6),
    Animal("turtle", "green", "pond", "leaves", "swim slowly and never give up", "hiss", 4),
    Animal("crow", "black", "nest", "seeds", "solve hard puzzles", "caw", 2),
    Animal("swan", "white", "lake", "water plants", "glide on the water", "hiss", 2),
    Animal("lion", "golden", "savanna", "meat", "roar so that all can hear", "roar", 4),
    Animal("elephant", "grey", "savanna", "leaves", "lift heavy logs", "trumpet", 4),
    Animal("monkey", "brown", "jungle", "bananas", "swing from branch to branch", "chatter", 4),
    Animal("penguin", "black and white", "ice", "fish", "slide on the ice", "squawk", 2),
    Animal("whale", "blue", "ocean", "small sea animals", "dive very deep", "sing", 0),
    Animal("dolphin", "grey", "ocean", "fish", "leap over the waves", "click", 0),
    Animal("dragon", "green", "mountain cave", "roasted nuts", "fly above the clouds", "roar", 4),
    Animal("robin", "red and brown", "nest", "worms", "sing sweet songs", "chirp", 2),
    Animal("beaver", "brown", "lodge", "bark", "build strong dams", "slap its tail", 4),
    Animal("badger", "black and white", "sett", "roots", "dig long tunnels", "grunt", 4),
    Animal("tiger", "orange", "jungle", "meat", "move without a sound", "roar", 4),
)

PEOPLE = (
    ("girl", "she"), ("boy", "he"), ("baker", "she"), ("baker", "he"), ("fisherman", "he"), ("gardener", "she"),
    ("gardener", "he"), ("farmer", "he"), ("farmer", "she"), ("princess", "she"), ("prince", "he"), ("king", "he"),
    ("queen", "she"), ("sailor", "he"), ("sailor", "she"), ("teacher", "she"), ("miller", "he"), ("painter", "she"),
    ("clockmaker", "he"), ("shepherd", "he"), ("robot", "he"), ("robot", "she"), ("doctor", "she"), ("knight", "he"),
    ("wizard", "he"), ("pilot", "she"), ("astronaut", "she"), ("engineer", "she"), ("engineer", "he"),
)

GIRL_NAMES = ("Anna", "Mia", "Lily", "Rosa", "Ella", "Nora", "Clara", "Ruby", "Zoe", "Maya", "Luna", "Ivy",
              "Hazel", "Alice", "Emma", "Sara", "Daisy", "Grace")
BOY_NAMES = ("Tom", "Ben", "Finn", "Max", "Leo", "Sam", "Oscar", "Hugo", "Jack", "Theo", "Felix", "Noah",
             "Milo", "Otto", "Adam", "Peter", "Robin", "Henry")

NATURE = ("little", "small", "young", "brave", "clever", "kind", "curious", "gentle", "cheerful", "quiet", "shy")

PLACES = ("a green forest", "a small village", "a quiet valley", "a town by the sea", "an old farm",
          "a cottage on a hill", "a house by the river", "a city with tall towers", "a village in the mountains",
          "a meadow full of flowers", "a castle on a rock", "a harbour by the blue sea")

TREASURES = ("silver key", "red ball", "golden ring", "blue hat", "wooden boat", "warm scarf", "little bell",
             "green lamp", "old map", "music box", "paper kite", "silver spoon", "glass marble", "brown book",
             "red umbrella", "toy train", "small drum", "white feather", "yellow bucket", "copper coin")

HIDING = ("under the old oak tree", "behind the barn", "beside the river", "inside a hollow log", "under a wide bench",
          "on top of the hill", "between two big rocks", "near the old well", "under the bridge", "in the tall grass",
          "behind the bakery", "at the end of the garden")

FOODS = ("apple pie", "warm bread", "carrot soup", "honey cake", "pancakes", "fresh strawberries", "hot soup",
         "sweet plums", "cheese and bread", "blueberry pie", "oat cookies", "roasted nuts")

CRAFTS = ("boat", "kite", "bridge", "cart", "little house", "garden", "clock", "swing", "lantern", "raft", "flute",
          "bird house")

SKILLS = (("swim", "swam across the lake"), ("fly a kite", "flew the kite above the roofs"),
          ("play the flute", "played a whole song"), ("bake bread", "baked a perfect loaf of bread"),
          ("dance", "danced in front of everyone"), ("read", "read a whole book"),
          ("climb the big tree", "climbed to the top of the big tree"), ("paint", "painted a picture of the sea"),
          ("sing", "sang in front of everyone"), ("skate", "skated around the whole pond"),
          ("row a boat", "rowed across the river"), ("count to one hundred", "counted to one hundred"))

WEATHER = (("sunny", "The sun was shining and the sky was blue"), ("rainy", "The rain was falling and the path was wet"),
           ("windy", "The wind was blowing and the leaves were dancing"),
           ("snowy", "The snow was falling and everything was white"),
           ("foggy", "The fog was thick and nobody could see far"), ("warm", "The air was warm and the birds were singing"),
           ("cold", "The air was cold and there was ice on the pond"))

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Japan": "Tokyo", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna", "Greece": "Athens", "Turkey": "Ankara",
    "Egypt": "Cairo", "Kenya": "Nairobi", "China": "Beijing", "India": "New Delhi",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Peru": "Lima",
    "Chile": "Santiago", "Australia": "Canberra", "Russia": "Moscow", "Ukraine": "Kyiv", "Hungary": "Budapest",
    "Belgium": "Brussels", "the Netherlands": "Amsterdam", "Switzerland": "Bern", "the United States": "Washington",
    "Cuba": "Havana", "Iceland": "Reykjavik", "Thailand": "Bangkok", "Vietnam": "Hanoi", "South Korea": "Seoul",
    "the Czech Republic": "Prague",
}

OPPOSITES = (("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("day", "night"), ("happy", "sad"),
             ("light", "dark"), ("old", "new"), ("wet", "dry"), ("full", "empty"), ("open", "closed"), ("left", "right"),
             ("high", "low"), ("loud", "quiet"), ("hard", "soft"), ("rich", "poor"), ("strong", "weak"),
             ("early", "late"), ("long", "short"), ("near", "far"), ("good", "bad"), ("first", "last"),
             ("black", "white"), ("true", "false"), ("begin", "end"), ("young", "old"), ("clean", "dirty"),
             ("thick", "thin"), ("healthy", "sick"), ("alive", "dead"))

COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "the sun": "yellow", "a tomato": "red", "a banana": "yellow",
    "a lemon": "yellow", "milk": "white", "coal": "black", "an orange": "orange", "a carrot": "orange",
    "a strawberry": "red", "the sea": "blue", "a leaf": "green", "chocolate": "brown", "blood": "red", "a cloud": "white",
    "the night": "black", "a plum": "purple", "gold": "yellow", "a frog": "green", "an elephant": "grey",
    "a pig": "pink", "a rose": "red", "a cherry": "red", "a cucumber": "green", "salt": "white", "a polar bear": "white",
}

COLOUR_NAMES = ("red", "blue", "green", "yellow", "orange", "purple", "brown", "black", "white", "grey", "pink")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return ("an " if noun[0] in "aeio" else "a ") + noun


SYLLABLES = ("ba", "be", "bo", "da", "di", "do", "fa", "ga", "ka", "ki", "ko", "la", "le", "lo", "ma", "me", "mi", "na", "ne",
             "ni", "pa", "pi", "ra", "re", "ri", "sa", "se", "ta", "ti", "to", "va", "vi", "wa", "za", "zu", "jo", "hu", "cha",
             "shi", "tra", "ster", "lin", "dor", "mar", "gen", "tur", "vel", "qui", "x", "y")


def made_up_word(rng: random.Random) -> str:
    """A word that is in no list, so that the model also meets rare tokens."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))
