"""The world's language: its words, and captions in three registers.

One lexicon serves both directions: the first phrase of each list is the plain one; every phrase can
be written by `caption` and is understood by `prompts.parse_prompt`.
"""

import re
from functools import cache

import numpy as np

from vidgen_lab.toyworld.world import Scene

REGISTERS = ("minimal", "detailed", "artistic")

# attribute -> value -> its phrases, the plain one first.
PHRASES = {
    "subject": {
        "ball": ("ball", "beach ball"),
        "cube": ("cube", "box", "block"),
        "star": ("star",),
        "heart": ("heart",),
        "ring": ("ring", "donut", "hoop"),
        "rocket": ("rocket", "spaceship"),
        "car": ("car", "automobile"),
        "fish": ("fish",),
        "dog": ("dog", "golden retriever", "retriever", "puppy"),
        "rose": ("rose",),
        "butterfly": ("butterfly",),
        "hummingbird": ("hummingbird", "bird"),
        "lighthouse": ("lighthouse",),
        "cloud": ("cloud", "clouds"),
        "aurora": ("aurora", "northern lights"),
        "coffee": ("cup of coffee", "coffee", "coffee cup"),
        "robot": ("robot", "android"),
        "mushroom": ("mushroom", "toadstool"),
    },
    "colour": {
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "amber"),
        "yellow": ("yellow", "golden", "gold"),
        "green": ("green", "emerald"),
        "blue": ("blue", "azure"),
        "purple": ("purple", "violet"),
        "pink": ("pink", "magenta"),
        "white": ("white", "ivory"),
    },
    "motion": {
        "left": (
            "moving left", "drifting to the left", "going left", "travelling from right to left",
        ),
        "right": (
            "moving right", "drifting to the right", "going right", "travelling from left to right",
        ),
        "up": ("moving up", "rising", "floating upwards", "climbing"),
        "down": ("moving down", "falling", "sinking downwards", "descending"),
        "bouncing": ("bouncing", "bouncing up and down", "hopping", "jumping"),
        "spinning": ("spinning", "rotating", "turning around itself", "twirling"),
        "growing": ("growing", "getting bigger", "growing larger", "expanding"),
        "orbiting": ("orbiting", "moving in a circle", "circling", "going round in circles"),
        "in_place": ("swaying",),
    },
    "background": {
        "meadow": (
            "in a meadow", "in a sunny meadow", "in a sunlit meadow", "through a sunlit meadow",
            "on a green field", "among tropical flowers", "on a flower", "in a park",
        ),
        "desert": ("in a desert", "in the desert", "over sand dunes", "across a sandy desert"),
        "ocean": (
            "over the ocean", "above the sea", "over the waves", "at the ocean", "on a foggy ocean",
        ),
        "night_sky": (
            "in a night sky", "in the night sky", "in a starry sky", "across the starry sky",
            "under the stars", "in space",
        ),
        "mountains": (
            "over mountain peaks", "in the mountains", "in front of snowy mountains",
            "over the mountains",
        ),
        "city": ("in a city", "in the city", "above a city skyline", "in front of skyscrapers"),
        "forest": ("in a forest", "in the woods", "among fir trees", "in a magical forest"),
        "snow": (
            "in the snow", "in a snowy landscape", "on a snowy winter day", "over snowy fields",
        ),
    },
    "style": {
        "cartoon": ("cartoon", "flat cartoon style", "colourful cartoon"),
        "vintage": (
            "black and white", "vintage film", "black-and-white vintage film", "old silent film",
        ),
        "neon": ("neon", "glowing neon style", "at night", "neon night", "glowing"),
        "papercut": ("paper cut-out", "paper collage", "cut-out paper style", "papercut"),
    },
}  # fmt: skip

# What only some subjects do, in the words people use for it.
SPECIAL_MOTIONS = {
    ("dog", "right"): ("running", "running through", "running right"),
    ("dog", "left"): ("running left", "running to the left"),
    ("dog", "bouncing"): ("jumping for joy",),
    ("car", "right"): ("driving", "driving through", "driving right"),
    ("car", "left"): ("driving left", "driving to the left"),
    ("fish", "right"): ("swimming", "swimming right"),
    ("fish", "left"): ("swimming left", "swimming to the left"),
    ("rocket", "up"): ("taking off", "launching", "flying up"),
    ("rocket", "down"): ("landing",),
    ("rocket", "right"): ("flying right",),
    ("rocket", "left"): ("flying left",),
    ("butterfly", "down"): ("landing",),
    ("butterfly", "up"): ("taking off", "flying up"),
    ("butterfly", "right"): ("flying right",),
    ("butterfly", "left"): ("flying left",),
    ("butterfly", "in_place"): ("fluttering", "fluttering in place"),
    ("hummingbird", "in_place"): ("hovering", "hovering in place"),
    ("hummingbird", "right"): ("flying right", "flying"),
    ("hummingbird", "left"): ("flying left",),
    ("hummingbird", "down"): ("landing",),
    ("hummingbird", "up"): ("flying up", "taking off"),
    ("rose", "growing"): ("blooming", "blooming in time-lapse", "opening"),
    ("rose", "in_place"): ("swaying in the breeze",),
    ("lighthouse", "in_place"): (
        "sweeping its beam", "with its beam sweeping", "beam sweeping", "beam",
    ),
    ("cloud", "right"): ("rolling", "rolling over", "rolling right"),
    ("cloud", "left"): ("rolling left",),
    ("aurora", "in_place"): ("dancing", "shimmering"),
    ("coffee", "in_place"): ("being poured", "pouring", "being filled"),
    ("robot", "right"): ("walking", "walking right", "marching right"),
    ("robot", "left"): ("walking left", "marching left"),
}  # fmt: skip

QUALITIES = (
    "high quality", "cinematic quality", "slow motion", "smooth motion", "detailed",
    "sharp focus", "4k", "masterpiece", "soft light", "beautiful",
)  # fmt: skip
MOODS = (
    "dreamlike", "majestic", "ethereal", "magical", "lonely",
    "cheerful", "poetic", "mysterious", "colorful", "colourful",
)  # fmt: skip
OPENINGS = (
    "a poem in motion :", "fantasy scene :", "a cinematic shot of", "imagine", "once upon a time ,",
)  # fmt: skip
FILLERS = "a an the of in on over at with and to , . : ; ! - video clip scene showing time lapse"

# Words of their own that name an attribute without a full phrase; longest match wins.
EXTRA_WORDS = {
    "motion": {
        "down": ("sinking",),
        "bouncing": ("up and down",),
        "spinning": ("turning",),
        "growing": ("bigger", "larger"),
        "orbiting": ("circles", "in a circle"),
        "in_place": ("poured", "filled"),
    },
    "background": {
        "meadow": ("meadow", "field", "flowers", "flower", "park", "grass"),
        "desert": ("desert", "dunes", "sand"),
        "ocean": ("ocean", "sea", "waves"),
        "night_sky": ("night sky", "starry sky", "starry night", "stars", "space"),
        "mountains": ("mountain", "mountains", "peaks"),
        "city": ("city", "skyline", "skyscrapers", "street"),
        "forest": ("forest", "woods", "trees"),
        "snow": ("snow", "snowy", "winter"),
    },
    "style": {
        "vintage": ("vintage", "monochrome", "black-and-white", "silent film", "old film"),
        "neon": ("night", "night-time", "cyberpunk", "synthwave"),
        "papercut": ("paper", "collage"),
    },
}

# What people also say -> what the captions say, from which the models learned their words.
OTHER_WORDS = {
    "auto": "car", "taxi": "car", "doughnut": "donut", "doughnuts": "donut", "goldfish": "fish",
    "mug": "cup", "spacecraft": "spaceship", "garden": "park", "grass": "meadow", "lawn": "meadow",
    "town": "city", "road": "city", "street": "city", "water": "sea", "coast": "sea",
    "snowing": "snow", "dune": "dunes", "movie": "film", "monochrome": "black and white",
    "cyberpunk": "neon", "synthwave": "neon", "cutout": "cut-out", "leftward": "left",
    "leftwards": "left",
    "rightward": "right", "rightwards": "right", "upward": "upwards", "downward": "downwards",
    "lifting off": "taking off", "lifts off": "taking off", "dropping": "falling",
    "drops": "falling", "sliding": "moving", "slides": "moving", "flapping": "fluttering",
    "flaps": "fluttering", "traveling": "travelling", "swims in circles": "circling",
    "swimming in circles": "circling", "flies in circles": "circling",
    "flying in circles": "circling",
}  # fmt: skip
# What people do not put into the form in "-ing", as the captions do.
VERBS = """
    move drift go travel rise float climb fall sink descend bounce hop jump spin rotate turn twirl
    grow get expand orbit circle sway run drive swim take launch land fly flutter hover bloom open
    sweep roll dance shimmer pour walk march
"""


def motion_phrases(subject: str, motion: str) -> tuple[str, ...]:
    """Every way to say that `subject` does `motion`; its own verbs first."""
    return SPECIAL_MOTIONS.get((subject, motion), ()) + PHRASES["motion"][motion]


def caption(scene: Scene, register: str, rng: np.random.Generator, drop: float = 0.0) -> str:
    """Describe `scene` in one register: "minimal", "detailed" or "artistic", else ValueError.

    `drop` is the chance that colour, background or motion goes unmentioned (an artistic caption
    leaves things open). Black-and-white scenes never mention a colour, since none can be seen.
    """
    if register not in REGISTERS:
        raise ValueError(f"unknown register {register!r}; choose one of {', '.join(REGISTERS)}")

    def pick(options: tuple[str, ...], first: float = 0.0) -> str:
        return options[0] if rng.random() < first else str(rng.choice(options))

    plain = {"minimal": 0.6, "detailed": 0.4, "artistic": 0.2}[register]
    noun = pick(PHRASES["subject"][scene.subject], 0.7)
    motion = pick(motion_phrases(scene.subject, scene.motion), 0.4)
    place = pick(PHRASES["background"][scene.background], plain)
    colour = "" if scene.style == "vintage" else pick(PHRASES["colour"][scene.colour], 0.75)
    colour, motion, place = (
        part if rng.random() >= drop else "" for part in (colour, motion, place)
    )
    if noun == "golden retriever":  # the breed names its colour
        noun, colour = (noun, "") if colour and scene.colour == "yellow" else ("retriever", colour)
    style = pick(PHRASES["style"][scene.style], 0.3)
    named = scene.style != "cartoon" or rng.random() < 0.3

    mood = pick(MOODS) if register == "artistic" else ""
    phrase = _join(mood, colour, noun)
    article = "an" if phrase[0] in "aeiou" else "a"
    article = "" if noun in ("clouds", "northern lights", "coffee") else article
    phrase = _join(article, phrase, motion, place)
    if scene.style == "neon" and style == "glowing":
        style = "glowing neon"
    if register == "minimal":
        return _join(phrase, style if style == "at night" else f", {style}") if named else phrase
    extras = list(rng.choice(QUALITIES, size=2 if register == "artistic" else 1, replace=False))
    if named:
        extras.insert(int(rng.integers(2)), style)
    if register == "artistic" and rng.random() < 0.5:
        phrase = _join(pick(OPENINGS), phrase)
    return _join(phrase, ", " + ", ".join(extras))


def naming_words() -> set[str]:
    """The words (lower case, punctuation apart) of all that names an attribute."""
    tables = [*PHRASES.values(), SPECIAL_MOTIONS, *EXTRA_WORDS.values()]
    phrases = [phrase for table in tables for group in table.values() for phrase in group]
    return set(split_words(" ".join(phrases)))


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word that captions or the parser know, sorted."""
    others = split_words(" ".join([*QUALITIES, *MOODS, *OPENINGS, FILLERS]))
    return tuple(sorted(naming_words().union(others)))


@cache
def plurals() -> dict[str, str]:
    """Several of a subject -> one of it; "stars" are left alone, they are a place."""
    nouns = {n for group in PHRASES["subject"].values() for n in group if " " not in n} - {"star"}
    found = {noun + ("es" if noun.endswith(("x", "sh")) else "s"): noun for noun in nouns}
    found |= {noun[:-1] + "ies": noun for noun in nouns if noun.endswith("y")}
    return {plural: noun for plural, noun in found.items() if plural not in nouns}


@cache
def rewordings() -> dict[str, str]:
    """What people type, as a pattern of lower-case text -> the word of the captions: "bounces" and
    "bounce" -> "bouncing". Python and the tokenizers' own engine read the patterns alike.

    No caption has one of them, so that nothing changes in what the models were trained on.
    """
    own, said = {*vocabulary()} - OTHER_WORDS.keys(), OTHER_WORDS | plurals()
    for verb in VERBS.split():
        forms = (verb + "ing", verb[:-1] + "ing", verb + verb[-1] + "ing")
        third = "flies" if verb == "fly" else verb + ("es" if verb[-1] in "oh" else "s")
        said |= dict.fromkeys((verb, third), next(form for form in forms if form in own))
    typed: dict[str, list[str]] = {}
    for word in said.keys() - own - {"fall", "land"}:  # "in the fall", "on land"
        typed.setdefault(said[word], []).append(word)
    return {
        rf"(?<!\w)(?:{'|'.join(sorted(words))})(?!\w)": word
        for word, words in sorted(typed.items())
    }


def reworded(text: str) -> str:
    """A lower-case text in the world's own words, as far as it has them."""
    for pattern, word in rewordings().items():
        text = re.sub(pattern, word, text)
    return text


def split_words(text: str) -> list[str]:
    """Lower case words, in any alphabet, and every other sign by itself."""
    return re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())


def _join(*parts: str) -> str:
    return re.sub(r" ,", ",", " ".join(part for part in parts if part))
