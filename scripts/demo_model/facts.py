"""Question and answer pairs: small general knowledge, and the health of inference services.

Every answer is a full sentence. Generators take the random source so that wordings vary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

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
    Topic(("an endpoint",), ("An endpoint is an address of a service, for example the address of its health check.",)),
    Topic(("a container",), ("A container is a box for a program with all that it needs. Many containers can run on one machine.",)),
    Topic(("a pod",), ("A pod is the smallest thing that Kubernetes runs. It holds one or more containers.",)),
    Topic(("a load balancer",), ("A load balancer shares the requests among many servers, so that no server has too much to do.",)),
    Topic(("Prometheus",), ("Prometheus is a program that collects metrics from services and stores them over time.",)),
    Topic(("a node",), ("A node is one machine of a cluster. When a node fails, the others take over its work.",)),
    Topic(("hysteresis",), ("Hysteresis means that a state changes only when a value stays over a limit for some time. It stops flapping.",)),
    Topic(("flapping",), ("Flapping means that a status changes all the time between good and bad. Nobody can trust such a status.",)),
    Topic(("a degraded service", "a degraded status", "degraded"),
          ("A degraded service still works, but something is wrong. Somebody should look at it.",)),
    Topic(("an unhealthy service", "an unhealthy status", "unhealthy"),
          ("An unhealthy service cannot do its work. It should get no traffic until it is well again.",)),
    Topic(("a healthy service", "a healthy status", "healthy"), ("A healthy service does its work, and all of its parts report in time.",)),
    Topic(("GGUF",), ("GGUF is a file format for models. One file holds the weights, the settings and the tokenizer.",)),
    Topic(("OpenMP",), ("OpenMP is a way to run a loop on many cores at the same time.",)),
    Topic(("CUDA",), ("CUDA is a way to run programs on a GPU.",)),
    Topic(("a kernel",), ("A kernel is a small and fast function that does the heavy work, for example a matrix product.",)),
    Topic(("a matrix",), ("A matrix is a table of numbers with rows and columns.",)),
    Topic(("a neural network",), ("A neural network is a program with many weights. It learns the weights from examples.",)),
    Topic(("an algorithm",), ("An algorithm is a list of clear steps that solve a problem.",)),
    Topic(("a bug",), ("A bug is a mistake in a program. Good tests find bugs early.",)),
    Topic(("a test", "a unit test"), ("A test runs a part of a program and checks that the result is right.",)),
    Topic(("a log", "a log file"), ("A log is a list of things that happened in a program, with the time of each.",)),
    Topic(("a computer",), ("A computer is a machine that follows the steps of a program very quickly.",)),
    Topic(("a bit",), ("A bit is the smallest piece of data. It is zero or one.",)),
    Topic(("a byte",), ("A byte is a group of eight bits.",)),
    Topic(("a thread",), ("A thread is one line of work in a program. Many threads can run at the same time.",)),
    Topic(("a deadlock",), ("In a deadlock two threads wait for each other, and nothing moves any more.",)),
    Topic(("streaming",), ("Streaming sends each token as soon as it is ready, so that the reader does not have to wait for the whole text.",)),
    Topic(("sampling",), ("Sampling chooses the next token by chance, so that likely tokens come more often.",)),
    Topic(("temperature",), ("A low temperature makes a model choose the most likely token. A high temperature makes it more creative.",)),
    Topic(("a friend",), ("A friend is somebody who helps you and is happy when you are happy.",)),
    Topic(("rain",), ("Rain is water that falls from the clouds.",)),
    Topic(("snow",), ("Snow is frozen water that falls from the clouds when it is cold.",)),
    Topic(("wind",), ("Wind is air that moves.",)),
    Topic(("the sun",), ("The sun is a star. It gives light and warmth to the earth.",)),
    Topic(("the moon",), ("The moon is a ball of rock that moves around the earth.",)),
    Topic(("the earth",), ("The earth is the planet on which we live. It moves around the sun.",)),
    Topic(("a star",), ("A star is a huge ball of hot gas, far away in the sky.",)),
    Topic(("a river",), ("A river is water that flows from the hills to the sea.",)),
    Topic(("a forest",), ("A forest is a place with many trees and animals.",)),
    Topic(("a mountain",), ("A mountain is a very high hill. It is cold at the top.",)),
    Topic(("the sea", "the ocean"), ("The sea is a very large body of salt water.",)),
    Topic(("a tree",), ("A tree is a tall plant with roots, a trunk, branches and leaves.",)),
    Topic(("a bird",), ("A bird is an animal with wings and feathers. Most birds can fly.",)),
    Topic(("a fish",), ("A fish is an animal that lives in water and swims with its fins.",)),
    Topic(("a story",), ("A story tells what happened to somebody. It has a beginning, a middle and an end.",)),
    Topic(("a poem",), ("A poem is a short text with rhythm, and often with rhymes.",)),
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
    (("What happens when a worker dies?", "What happens if a worker crashes?", "What do you do when a worker dies?"),
     "The supervisor sees it, starts a new worker, and the requests go on."),
    (("What happens when a probe fails?", "What happens if a liveness probe fails?"), "If a liveness probe fails, the service is restarted."),
    (("What happens if a readiness probe fails?", "What happens when a readiness probe fails?"),
     "If a readiness probe fails, the service gets no traffic until it is ready again."),
    (("Name the three kinds of probes.", "Which probes are there?", "What kinds of probes does Kubernetes have?"),
     "There are three kinds of probes: the liveness probe, the readiness probe and the startup probe."),
    (("Name the three health states.", "Which health states are there?", "What can the status be?"),
     "There are three states: healthy, degraded and unhealthy."),
    (("How does a language model work?", "How do you work?", "How do you write text?"),
     "I read the prompt, guess the next token, add it to the text and start again."),
    (("Why are ternary weights fast?", "Why is BitNet fast?", "Why is a ternary model fast?"),
     "With ternary weights there is nothing to multiply. The machine only adds and subtracts."),
    (("What makes a good health check?", "What is a good health check?", "How should a health check be?"),
     "A good health check is fast, tells the truth and never blocks."),
    (("How many minutes are in an hour?", "How many minutes does an hour have?"), "An hour has sixty minutes."),
    (("How many seconds are in a minute?", "How many seconds does a minute have?"), "A minute has sixty seconds."),
    (("How many hours are in a day?", "How many hours does a day have?"), "A day has twenty four hours."),
    (("Name the four seasons.", "What are the seasons?", "Which seasons are there?"), "The four seasons are spring, summer, autumn and winter."),
    (("Name the five senses.", "What are the five senses?"), "The five senses are sight, hearing, smell, taste and touch."),
    (("How many fingers does a hand have?", "How many fingers are on a hand?"), "A hand has five fingers."),
    (("How many sides does a triangle have?", "What is a triangle?"), "A triangle has three sides."),
    (("How many sides does a square have?", "What is a square?"), "A square has four equal sides."),
    (("What do plants need to grow?", "What does a plant need?"), "Plants need water, light and good soil to grow."),
    (("Why is the sky blue?",), "The air spreads the blue light of the sun more than the other colours."),
    (("How do birds fly?", "Why can birds fly?"), "Birds fly with their wings. The wings push the air down, and the bird goes up."),
    (("Where does the sun rise?",), "The sun rises in the east."), (("Where does the sun set?",), "The sun sets in the west."),
    (("What is water made of?",), "Water is made of hydrogen and oxygen."),
    (("What is the largest planet?", "Which planet is the largest?"), "The largest planet is Jupiter."),
    (("What is the largest animal?", "Which animal is the largest?"), "The largest animal is the blue whale."),
    (("What is the highest mountain?", "Which mountain is the highest?"), "The highest mountain is Mount Everest."),
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
    "x": ("the telephone", "a car", "quantum physics", "a bicycle", "the stock market", "lasagna", "the piano",
          "a house", "the internet", "Linux", "the economy", "a guitar", "the brain", "Shakespeare", "the government", "football",
          "a passport", "an email", "the printer", "the company", "chess", "Java", "a spaceship", "medicine", "philosophy"),
    "n": ("movie", "book", "phone", "database", "framework", "restaurant", "song", "sorting", "web", "laptop", "language"),
    "l": ("French", "German", "Spanish", "Latin", "Japanese"),
    "j": ("big", "expensive", "hard", "famous", "slow", "important"),
    "y": ("1492", "1789", "1815", "1914", "1945", "1969", "1989", "2001", "2020"),
}


T = TypeVar("T")


def early(rng: random.Random, items: Sequence[T]) -> T:
    """One item; the earlier ones come more often, so that a short training learns at least these."""
    return items[int(len(items) * rng.random() ** 2)]


def technical(rng: random.Random) -> Turn:
    topic = early(rng, TECHNICAL)
    name = topic.names[0] if rng.random() < 0.6 else rng.choice(topic.names)
    return Turn(rng.choice(ASK_TERM).format(name), rng.choice(topic.answers))


def health(rng: random.Random) -> Turn:
    """The service's own subject, which should be known best: the first topics of each table."""
    if rng.random() < 0.25:
        questions, answer = FIXED[0]
        return Turn(rng.choice(questions), answer)
    topic = rng.choice(TECHNICAL[:4])
    name = topic.names[0] if rng.random() < 0.6 else rng.choice(topic.names)
    return Turn(rng.choice(ASK_TERM).format(name), topic.answers[0])


def fixed(rng: random.Random) -> Turn:
    questions, answer = early(rng, FIXED)
    return Turn(rng.choice(questions), answer)


def small_talk(rng: random.Random) -> Turn:
    questions, answers = early(rng, SMALL_TALK)
    return Turn(rng.choice(questions), rng.choice(answers))


def unknown(rng: random.Random) -> Turn:
    words = {key: rng.choice(values) for key, values in UNKNOWN_WORDS.items()}
    if rng.random() < 0.4:
        words["x"] = rng.choice(("{}", "a {}", "the {}")).format(made_up_word(rng))
    return Turn(rng.choice(UNKNOWN_FORMS).format(**words), rng.choice(UNKNOWN_ANSWERS))


def capital(rng: random.Random) -> Turn:
    country, city = early(rng, list(CAPITALS.items()))
    if rng.random() < 0.2:
        return Turn(rng.choice((f"Which country has the capital {city}?", f"{city} is the capital of which country?")),
                    f"{city} is the capital of {country}.")
    return Turn(rng.choice((f"What is the capital of {country}?", f"What is the capital of {country}?", f"Which city is the capital of {country}?",
                            f"Do you know the capital of {country}?", f"Name the capital of {country}.", f"what is the capital of {country}")),
                f"The capital of {country} is {city}.")


def colour(rng: random.Random) -> Turn:
    thing, hue = early(rng, list(COLOURS.items()))
    ask = rng.choice((f"What colour is {thing}?", f"What color is {thing}?", f"Which colour has {thing}?", f"Tell me the colour of {thing}."))
    return Turn(ask, f"{thing[0].upper() + thing[1:]} is {hue}.")


def animal(rng: random.Random) -> Turn:
    x = early(rng, ANIMALS)
    one = a(x.name)
    legs = "no" if x.legs == 0 else NUMBERS[x.legs]
    question, answer = rng.choice((
        (f"Where does {one} live?", f"{one.capitalize()} lives in {a(x.home)}." if x.home not in ("ice", "grass") else f"{one.capitalize()} lives on the {x.home}."),
        (f"What does {one} eat?", f"{one.capitalize()} eats {x.food}."),
        (f"What can {one} do?", f"{one.capitalize()} can {x.skill}."),
        (f"How many legs does {one} have?", f"{one.capitalize()} has {legs} legs."),
        (f"What colour is {one}?", f"{one.capitalize()} is {x.colour}."),
        (f"Tell me about the {x.name}.", f"The {x.name} is {x.colour}. It eats {x.food}, and it can {x.skill}."),
        (f"What is {one}?", f"{one.capitalize()} is an animal. It eats {x.food}, and it can {x.skill}."),
        (f"Tell me about {one}.", f"The {x.name} is {x.colour}. It eats {x.food}, and it can {x.skill}."),
        (f"What do you know about {one}?", f"The {x.name} is {x.colour}. It eats {x.food}, and it can {x.skill}."),
    ))
    return Turn(question, answer)


def arithmetic(rng: random.Random) -> Turn:
    """Sums and differences up to ten, in digits or in words."""
    x, y = rng.randint(1, 5), rng.randint(1, 5)
    sign, word, result = "+", "plus", x + y
    if rng.random() < 0.35:
        x, y = max(x, y), min(x, y)
        sign, word, result = "-", "minus", x - y
    if rng.random() < 0.3:
        left, right, total = NUMBERS[x], NUMBERS[y], NUMBERS[result]
        return Turn(f"What is {left} {word} {right}?", f"{left.capitalize()} {word} {right} is {total}.")
    ask = rng.choice(("What is {}?", "What is {}?", "How much is {}?", "Calculate {}."))
    return Turn(ask.format(f"{x} {rng.choice((word, sign))} {y}"), f"{x} {word} {y} is {result}.")


def opposite(rng: random.Random) -> Turn:
    first, second = early(rng, OPPOSITES)
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


def agreement(rng: random.Random) -> Turn:
    """Yes-or-no questions on colours."""
    thing, hue = early(rng, list(COLOURS.items()))
    claim = hue if rng.random() < 0.5 else rng.choice(COLOUR_NAMES)
    return Turn(rng.choice((f"Is {thing} {claim}?", f"Is it true that {thing} is {claim}?")), f"{'Yes' if claim == hue else 'No'}, {thing} is {hue}.")


def comparison(rng: random.Random) -> Turn:
    """The larger or smaller of two numbers."""
    x, y = rng.sample(range(1, 21), 2)
    word, result = rng.choice((("bigger", max(x, y)), ("smaller", min(x, y))))
    return Turn(rng.choice((f"Which is {word}, {x} or {y}?", f"Which number is {word}, {x} or {y}?")),
                f"{result} is {word} than {min(x, y) if word == 'bigger' else max(x, y)}.")


JOBS = {"baker": "bakes bread and cakes", "farmer": "grows food on the fields", "teacher": "teaches children to read and write",
        "doctor": "helps people who are sick", "pilot": "flies a plane", "sailor": "works on a ship", "painter": "paints pictures and walls",
        "gardener": "looks after plants and trees", "fisherman": "catches fish", "engineer": "builds and repairs machines",
        "miller": "makes flour from grain", "shepherd": "looks after the sheep", "astronaut": "travels into space", "cook": "makes good food",
        "king": "rules a country", "queen": "rules a country", "clockmaker": "makes and repairs clocks", "writer": "writes books"}


def job(rng: random.Random) -> Turn:
    name, work = rng.choice(list(JOBS.items()))
    if rng.random() < 0.2:
        return Turn(f"Who {work}?", f"{a(name).capitalize()} {work}.")
    return Turn(rng.choice((f"What does {a(name)} do?", f"What is the work of {a(name)}?", f"What is {a(name)}?")), f"{a(name).capitalize()} {work}.")


def repeat(rng: random.Random) -> Turn:
    """The model has to copy words from the request."""
    words = rng.choice(("hello", "hello world", "good morning", "all is well", "thank you", "yes", "no", "OK", "ready", made_up_word(rng),
                        f"{rng.choice(COLOUR_NAMES)} {rng.choice(ANIMALS).name}", rng.choice(DAYS), str(rng.randint(0, 99))))
    said = words[0].upper() + words[1:]
    return Turn(rng.choice((f"Say {words}.", f"Say {words}", f"Please say {words}.", f"Repeat after me: {words}.", f"Repeat: {words}")), f"{said}.")


RHYMES = (("The {x} is here, the {x} is there,", "it dances through the evening air."), ("I saw {a_x} beside the sea.", "It looked up high and smiled at me."),
          ("Oh little {x}, so far from home,", "the world is wide for those who roam."), ("The morning light is on the hill.", "The little {x} is sleeping still."),
          ("A {hue} {x} came down the hill.", "The night was dark, the wind was still."), ("Sleep well, sweet {x}, the day is done.", "Tomorrow brings another sun."),
          ("The {x} sings a song for you", "of skies so wide and skies so blue."), ("When winter comes with ice and snow,", "the {x} knows where it must go."))


def poem(rng: random.Random) -> Turn:
    """Four lines about the thing asked for."""
    x = rng.choice([x.name for x in ANIMALS] + ["moon", "sea", "star", "tree", "river", "robot", "server", "bird", "cloud", "rose", "wind", "lamp"])
    lines = [line for couplet in rng.sample(RHYMES, 2) for line in couplet]
    text = "\n".join(lines).format(x=x, a_x=a(x), hue=rng.choice(("red", "blue", "green", "white")))
    return Turn(rng.choice((f"Write a poem about {a(x)}.", f"Write a poem about the {x}.", f"Write a short poem about {a(x)}.", f"Tell me a poem about the {x}.",
                            f"Can you write a poem about {a(x)}?")), text)


# Each generator with its share of the questions.
GENERATORS: tuple[tuple[Callable[[random.Random], Turn], float], ...] = (
    (technical, 26), (health, 20), (fixed, 14), (small_talk, 18), (unknown, 6), (capital, 15), (colour, 7), (animal, 7), (arithmetic, 9),
    (opposite, 6), (calendar, 8), (counting, 2), (listing, 3), (agreement, 2), (comparison, 1), (job, 4), (repeat, 4), (poem, 5),
)


def question(rng: random.Random) -> Turn:
    """One question on any subject."""
    generators, weights = zip(*GENERATORS)
    return rng.choices(generators, weights)[0](rng)
