"""What a sentence names, what it says beyond that, and which of its words nobody here knows."""

import pytest

from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.toyworld.language import vocabulary
from vidgen_lab.toyworld.prompts import read_prompt, unknown_words, word_list


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("northern lights over snowy mountains", "aurora mountains"),
        ("a rocket taking off, snowy and silent", "rocket up snow"),
        ("a fish in a snowy city", "fish city"),
        ("a hummingbird hovering near a red flower", "hummingbird in_place meadow"),
        ("a bird flying right over red roses", "hummingbird right"),
        ("a red desert with a blue ball", "ball blue desert"),
        ("a ball moving left on a green field", "ball left meadow"),
        ("a red, shiny ball", "ball red"),
        ("a ball, deep red, bouncing", "ball red bouncing"),
        ("a ball coloured red bouncing in the snow", "ball red bouncing snow"),
        ("a butterfly with golden wings", "butterfly yellow"),
        ("a ball at golden hour", "ball"),
        ("three red balls bouncing", "ball red bouncing"),
        ("two puppies in a park", "dog meadow"),
        ("a ball under the stars", "ball night_sky"),
        ("a red ball, not blue, moving left", "ball red left"),
        ("a blue ball and no cube", "ball blue"),
        ("a red ball that bounces over the water", "ball red bouncing ocean"),
        ("the dog runs across the snow", "dog right snow"),
        ("a blue bird flies to the left over the sea", "hummingbird blue left ocean"),
        ("a fish swims in circles", "fish orbiting"),
        ("a ball rolls from the left to the right", "ball right"),
        ("a ball bouncing up and down in a street", "ball bouncing city"),
        ("a rocket lifts off into the starry night", "rocket up night_sky"),
        ("a heart slowly gets bigger", "heart growing"),
        ("a ball sinking in the sea", "ball down ocean"),
        ("an old black-and-white movie of a rocket landing", "rocket down vintage"),
        ("three yellow stars spinning in space", "star yellow spinning night_sky"),
        ("coffee poured into a red cup", "coffee red in_place"),
        ("a red doughnut", "ring red"),
        ("ball blue up snow", "ball blue up snow"),
    ],
)
def test_each_word_belongs_to_its_noun(prompt, named):
    assert list(parse_prompt(prompt).values()) == named.split()


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a blue robot walking left in the city", "robot blue left city"),
        ("an android marching right through a forest", "robot right forest"),
        ("a red toadstool swaying in the snow", "mushroom red in_place snow"),
        (
            "a green mushroom hopping in a meadow, paper cut-out",
            "mushroom green bouncing meadow papercut",
        ),
        ("a ball in a desert, cut-out paper style", "ball desert papercut"),
        ("a paper collage of a yellow star in a forest", "star yellow forest papercut"),
    ],
)
def test_what_is_reserved_has_its_words(prompt, named):
    assert list(parse_prompt(prompt).values()) == named.split()


@pytest.mark.parametrize(
    ("prompt", "unjudged"),
    [
        ("a red ball moving left in a desert", []),
        ("a red ball, not blue, moving left", ["negation (not blue)"]),
        ("a desert without a ball", ["negation (without a ball)"]),
        ("the ball doesn't move", ["negation (not move)"]),
        ("three red balls bouncing", ["number (three)"]),
        ("balls bouncing", ["number (balls)"]),
        ("a dog and a red ball in a park", ["second subject (ball)"]),
        ("a dog, a dog and a ball", ["second subject (ball)"]),
        ("a lighthouse moving left", ["motion (moving left: a lighthouse does not do that here)"]),
        ("a red ball, vintage film", ["colour (red: black and white shows none)"]),
        ("a ball in 4k", []),
        ("an aurora dancing in a forest, black and white", []),
        ("a rose, old black-and-white vintage film", []),
        ("a robot that cares for nobody", []),
        ("a red ball in the snow at Noël", []),
        ("two boxes", ["number (two)"]),
        ("a black dog", ["no meaning here (black)"]),
        ("a black-and-white dog", []),
        ("a dog on the beach", ["no meaning here (beach)"]),
        ("a ball in the snow in a city", ["no meaning here (city)"]),
        ("a ball bouncing and spinning", ["no meaning here (spinning)"]),
        ("a ball in a snowy landscape", []),
        ("a butterfly flies in a park", ["motion (flying: which way?)"]),
        ("fishes in the ocean", ["number (fishes)"]),
    ],
)
def test_what_a_sentence_says_beyond_the_attributes(prompt, unjudged):
    assert read_prompt(prompt).unjudged == unjudged


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a red ball bouncing", {}),
        ("a cat on a skateboard", {"cat": None, "skateboard": None}),
        ("a bule bal over the moutains", {"bule": "blue", "bal": "ball", "moutains": "mountains"}),
        ("it is a ball that isn't there", {}),
        ("two puppies and three butterflies", {}),
        ("roter Ball 球", {"roter": None, "球": None}),
        ("a piñata box, café_bar", {"piñata": None, "café": None, "bar": None}),
        ("a bright moon in the dark rain", dict.fromkeys(("bright", "moon", "dark", "rain"))),
        ("a ball bounces, roses bloom", {}),
        ("éstar 球ball", {"éstar": "star", "球ball": "ball"}),
    ],
)
def test_unknown_words_and_the_nearest_known_one(prompt, unknown):
    assert unknown_words(prompt) == unknown
    assert read_prompt(prompt).ignored == unknown


def test_a_sentence_of_many_unknown_words_is_read_at_once():
    words = [
        f"z{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(9000)
    ]
    assert len(unknown_words(" ".join(words))) == 9000


def test_a_very_long_word_is_read_at_once():
    assert unknown_words("n" * 100_000) == {"n" * 100_000: None}
    assert parse_prompt("a red ball " + "n" * 100_000) == {"subject": "ball", "colour": "red"}


def test_the_list_of_words_holds_every_noun():
    shown = word_list()
    for word in ("ball", "golden retriever", "crimson", "moving left", "in a meadow", "vintage"):
        assert word in shown
    assert set(shown.lower().replace(",", " ").replace("-", " ").split()) & set(vocabulary())
