"""Short descriptions without a plot: weather, seasons, places, a meal, a day in a town, the work of a server."""

from __future__ import annotations

import random

from .lexicon import ANIMALS, COLOUR_NAMES, DAYS, FOODS, TREASURES, a

# A passage is a row of sentences; each sentence is drawn from a few wordings.
PASSAGES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("The weather today is {sky}.", "Today the weather is {sky}.", "It is {sky} today."),
     ("The wind comes from the {side}.", "There is a little wind from the {side}.", "There is no wind at all."),
     ("In the evening it will be colder.", "In the afternoon there may be some rain.", "Tomorrow will be warm and sunny."),
     ("Take a coat with you.", "It is a good day for a walk.", "The children play in the garden.")),
    (("In spring the days grow longer.", "Spring is the season of flowers."), ("The snow melts and the birds come back.", "The trees turn green and the bees begin to work."),
     ("In summer it is hot, and people swim in the lake.", "Summer brings long days and warm nights."),
     ("In autumn the leaves turn red and yellow.", "Autumn is the time of apples and nuts."),
     ("In winter it is cold, and snow covers the fields.", "Winter is quiet, and the nights are long.")),
    (("The town wakes up early.", "Every morning the town wakes up with the sun."), ("The baker opens the shop, and the smell of warm bread fills the street.", "The first to get up is the baker."),
     ("Children walk to school and talk about their dreams.", "The farmers bring {food} to the market."),
     ("At noon the bells ring.", "In the afternoon old friends sit in front of their houses."), ("In the evening the lamps are lit, one after another.", "At night only the cats are awake.")),
    (("The sea is calm today.", "The sea is never the same."), ("Small waves run over the sand.", "White birds fly above the water."),
     ("A ship with {hue} sails goes by.", "Far away there is a small {hue} boat."), ("The sailors sing an old song.", "The air smells of salt."),
     ("When the sun goes down, the water looks like gold.", "At night the lighthouse shows the way.")),
    (("The quick brown fox jumps over the lazy dog.",), ("The dog opens one eye and goes back to sleep.", "The dog does not even wake up."),
     ("The fox laughs and runs into the forest.", "The fox is proud and jumps again.")),
    (("To make {food}, you need a little time.", "This is how to make {food}."), ("First wash your hands.", "First put everything on the table."),
     ("Then mix all in a bowl.", "Then cut everything into small pieces."), ("Wait for half an hour.", "Put it on the fire and wait."), ("At last share it with a friend.", "It tastes best when it is warm.")),
    (("The server starts and loads the model.", "When the server starts, it first loads the model."), ("Then it checks its memory and its devices.", "Each part reports its state."),
     ("A small test with a known answer shows that the engine is right.", "A canary runs and gives the right answer."),
     ("Now the readiness probe passes, and the first requests come in.", "Now the service is ready."),
     ("Every request is cut into tokens, and the answer is sent token by token.", "The workers share the work."),
     ("If a worker dies, its supervisor starts a new one.", "When something goes wrong, the health endpoint says so at once."), ("All is well.", "In the evening all checks are still green.")),
    (("On {day} I went to the market.", "On {day} we had a day off."), ("I bought {a_thing} and some {food}.", "We took some {food} and walked to the lake."),
     ("On the way I saw {an_animal}.", "There we saw {an_animal}."), ("It looked at me and ran away.", "It was not afraid at all."), ("It was a good day.", "In the evening I wrote it all down.")),
    (("My house has a {hue} door and a garden.", "We live in a small house with a {hue} roof."), ("In the kitchen there is a big table.", "There are three rooms and a kitchen."),
     ("From the window you can see the hills.", "In the garden there is an old apple tree."), ("Under the tree sits {an_animal}.", "Every evening {an_animal} comes to visit."), ("I would not want to live in any other place.", "It is a good place to live.")),
    (("The meaning of life is not easy to say.", "Nobody knows the meaning of life."), ("Some say it is love.", "Some look for it all their lives."), ("Others find it in small things, like {food} and a good friend.", "Others find it in their work.",),
     ("Be kind, be honest and keep on learning.", "Perhaps it is enough to be kind.")),
    (("In the beginning there was nothing but the dark.", "In the beginning the world was quiet."), ("Then a small light appeared.", "Then somebody lit a lamp."), ("Others saw it and came closer.", "It grew and grew."),
     ("They built houses, planted trees and told stories.", "Soon there were many lights."), ("And that is how the first town was made.", "And they have burned ever since.")),
    (("It was a dark and quiet night.", "The night was cold and clear."), ("The moon stood above the hills.", "Thousands of stars were in the sky."), ("Somewhere {an_animal} called.", "Nothing moved but the wind."),
     ("Behind one window there was still a light.", "Only one house was still awake."), ("Somebody was reading a book.", "An old man was writing a letter to a friend.")),
)


def random_passage(rng: random.Random) -> str:
    words = {"sky": rng.choice(("sunny", "cloudy", "rainy", "windy", "cold and clear", "warm")), "side": rng.choice(("north", "south", "east", "west")),
             "hue": rng.choice(COLOUR_NAMES), "food": rng.choice(FOODS), "day": rng.choice(DAYS), "a_thing": a(rng.choice(TREASURES)),
             "an_animal": a(rng.choice(ANIMALS).name)}
    return " ".join(rng.choice(wordings) for wordings in rng.choice(PASSAGES)).format(**words)
