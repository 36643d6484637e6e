"""Who is held out, and that it stays so whatever happens to the catalogue."""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rakuten.config import SplitConfig
from rakuten.data.near_duplicates import find_near_duplicates
from rakuten.data.split import CALIB, DROPPED, TEST, TRAIN, carve_val, split

# A held-out side of a third: in a catalogue of thirty products the rules have something to do.
CONFIG = SplitConfig(test=0.25, calib=0.15, val=0.1, salt=0, near_duplicate=0.8)
WORDS = [
    "piscine",
    "gonflable",
    "ronde",
    "bleu",
    "enfant",
    "jardin",
    "console",
    "manette",
    "sans",
    "fil",
    "noire",
    "livre",
    "roman",
    "policier",
    "poche",
    "figurine",
    "collection",
    "edition",
    "limitee",
    "carte",
    "rare",
    "brillante",
    "chaise",
    "bureau",
    "pliante",
    "bois",
    "lampe",
    "chevet",
    "tissu",
    "coussin",
    "velours",
]
Row = tuple[str, str]

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def sentence(topic: int) -> str:
    return " ".join(random.Random(topic).choices(WORDS, k=14))


def variant(topic: int, change: int) -> str:
    """A text of `topic`: as it is, in another case, with other punctuation, with one word more, with two changed."""
    words = sentence(topic).split()
    if change == 1:
        return sentence(topic).upper()
    if change == 2:
        return ", ".join(words) + " !"
    if change == 3:
        return f"{sentence(topic)} neuf"
    if change == 4:
        words[3] = "x"
        words[9] = "y"
    return " ".join(words)


rows = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 11), st.integers(0, 4)),
    max_size=30,
    unique_by=lambda row: row[0],
).map(lambda drawn: [(str(id_), variant(topic, change)) for id_, topic, change in drawn])


def sides(table: Sequence[Row], config: SplitConfig = CONFIG) -> dict[str, str]:
    side = split([id_ for id_, _ in table], [text for _, text in table], config).side
    return {id_: str(each) for (id_, _), each in zip(table, side, strict=True)}


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of character 5-grams, written down a second time."""

    def grams(text: str) -> set[str]:
        kept = "".join(c if c.isalnum() else " " for c in text.lower())
        padded = f" {' '.join(kept.split())} "
        return {padded[i : i + 5] for i in range(len(padded) - 4)}

    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


@quick
@given(rows, st.randoms(use_true_random=False))
def test_row_order_changes_nothing(table: list[Row], rng: random.Random) -> None:
    shuffled = list(table)
    rng.shuffle(shuffled)
    assert sides(shuffled) == sides(table)


@quick
@given(rows, rows)
def test_later_versions_move_nobody_in_or_out_of_the_test_set(before: list[Row], added: list[Row]) -> None:
    """Rows come, with smaller and larger ids, near-duplicates of old ones among them: who was test stays test."""
    known = {id_ for id_, _ in before}
    after = [*(row for row in added if row[0] not in known), *before]
    old, new = sides(before), sides(after)
    for id_ in known:
        assert (old[id_] == TEST) == (new[id_] == TEST)
        # A calib or training row may have to give way to a newcomer, and goes nowhere else.
        assert new[id_] in {old[id_], DROPPED}


@quick
@given(rows, st.randoms(use_true_random=False))
def test_removals_move_nobody_between_held_out_sets(before: list[Row], rng: random.Random) -> None:
    after = [row for row in before if rng.random() < 0.6]
    old, new = sides(before), sides(after)
    for id_, _ in after:
        assert (old[id_] == TEST) == (new[id_] == TEST)
        assert old[id_] in {new[id_], DROPPED}


@quick
@given(rows, rows, rows)
def test_what_was_ever_test_is_never_trained_on(
    first: list[Row], second: list[Row], third: list[Row]
) -> None:
    """Through versions that share ids at random; a product keeps its id, its text may change."""
    ever_test: set[str] = set()
    for version in (first, second, third, [*first, *(r for r in second if r[0] not in dict(first))]):
        now = sides(version)
        ever_test |= {id_ for id_, side in now.items() if side == TEST}
        assert not {id_ for id_, side in now.items() if side in (TRAIN, CALIB)} & ever_test


@quick
@given(rows)
def test_no_near_duplicate_of_a_held_out_product_is_learned_from(table: list[Row]) -> None:
    side, text = sides(table), dict(table)
    for a in table:
        for b in table:
            pair = (side[a[0]], side[b[0]])
            if pair in {(TEST, TRAIN), (TEST, CALIB), (CALIB, TRAIN)}:
                assert similarity(text[a[0]], text[b[0]]) < CONFIG.near_duplicate


@quick
@given(rows, st.integers(0, 5))
def test_near_duplicates_validate_together(table: list[Row], seed: int) -> None:
    """Groups hold every near-duplicate pair, and carve_val leaves groups whole."""
    result = split([id_ for id_, _ in table], [text for _, text in table], CONFIG)
    for i, a in enumerate(table):
        for j, b in enumerate(table):
            if similarity(a[1], b[1]) >= CONFIG.near_duplicate:
                assert result.group[i] == result.group[j]
    labels = np.array([int(id_) % 3 for id_, _ in table], dtype=np.int64)
    is_val = carve_val(labels, result.group, 0.3, seed)
    for group in set(result.group.tolist()):
        assert len(set(is_val[result.group == group].tolist())) == 1


@quick
@given(rows)
def test_nobody_is_dropped_without_a_held_out_double(table: list[Row]) -> None:
    side, text = sides(table), dict(table)
    held_out = [id_ for id_ in side if side[id_] in (TEST, CALIB)]
    # A dropped calib row may be the one that a training row was dropped for.
    dropped = [id_ for id_ in side if side[id_] == DROPPED]
    for id_ in dropped:
        doubles = [other for other in held_out + dropped if other != id_]
        assert any(similarity(text[id_], text[other]) >= CONFIG.near_duplicate for other in doubles)


def many(num: int) -> list[Row]:
    return [(str(1000 + n), f"{sentence(n)} {sentence(n + num)}") for n in range(num)]


def test_shares_are_close_to_nominal() -> None:
    config = SplitConfig(test=0.15, calib=0.05, val=0.1, salt=0, near_duplicate=0.8)
    counts = Counter(sides(many(2_000), config).values())
    assert counts[TEST] / 2_000 == pytest.approx(0.15, abs=0.025)  # three standard deviations: 0.024
    assert counts[CALIB] / 2_000 == pytest.approx(0.05, abs=0.015)
    assert counts[DROPPED] < 20


def test_the_salt_draws_another_test_set() -> None:
    table = many(400)
    by_salt = [
        sides(table, SplitConfig(test=0.25, calib=0.15, val=0.1, salt=salt, near_duplicate=0.8))
        for salt in (0, 1, "a")
    ]
    tests = [{id_ for id_, side in each.items() if side == TEST} for each in by_salt]
    assert len({frozenset(each) for each in tests}) == 3
    # Independent draws: a quarter of one is in the other, not all and not none.
    assert 0.1 < len(tests[0] & tests[1]) / len(tests[0]) < 0.45


def test_five_thousand_copies_of_one_text() -> None:
    """The copies share one side with the held-out ones, or are dropped; no pair of copies is ever enumerated."""
    table = [(str(n), "Livre de poche occasion") for n in range(5_000)]
    result = split([id_ for id_, _ in table], [text for _, text in table], CONFIG)
    counts = Counter(result.side.tolist())
    assert set(counts) == {TEST, DROPPED}
    assert counts[TEST] / 5_000 == pytest.approx(0.25, abs=0.02)
    assert len(set(result.group.tolist())) == 1
    assert len(find_near_duplicates([text for _, text in table], 0.8).pairs) == 0


def test_rows_without_text_resemble_nobody() -> None:
    table = [(str(n), "") for n in range(300)]
    assert DROPPED not in sides(table).values()
    result = split([id_ for id_, _ in table], [""] * 300, CONFIG)
    assert len(set(result.group.tolist())) == 300


def test_texts_of_another_alphabet_are_compared_too() -> None:
    texts = [
        "书籍 游戏 玩具 家具 花园 游泳池 灯",
        "书籍 游戏 玩具 家具 花园 游泳池 灯",
        "كتاب لعبة أثاث حديقة مسبح",
        "",
    ]
    node = find_near_duplicates(texts, 0.8).node
    assert node[0] == node[1]
    assert len({node[0], node[2], node[3]}) == 3


@pytest.mark.parametrize("text", ["\ud800", "\0", "a", "   ", "\u200b", "é" * 5_000])
def test_odd_texts_are_taken(text: str) -> None:
    assert len(split(["1", "2"], [text, "livre"], CONFIG).side) == 2


def test_one_product_listed_twice_stays_together() -> None:
    """Rows of one productid say nothing alike, and are one product all the same."""
    result = split(["7", "7", "8"], ["livre roman", "console manette", "chaise bureau"], CONFIG)
    assert result.group[0] == result.group[1] != result.group[2]
    assert result.side[0] == result.side[1]


def test_an_empty_catalogue() -> None:
    result = split([], [], CONFIG)
    assert len(result.side) == len(result.group) == 0
    assert len(carve_val(np.empty(0, np.int64), np.empty(0, np.int64), 0.1, 0)) == 0


# --- val ----------------------------------------------------------------------------------------------------


def training(num: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, num, p=[0.6, 0.3, 0.08, 0.02])
    groups = rng.integers(0, num, num)  # some share one
    return labels, groups


def test_val_is_stratified() -> None:
    labels, groups = training()
    is_val = carve_val(labels, groups, 0.2, 0)
    for label in range(4):
        share = is_val[labels == label].mean()
        assert share == pytest.approx(0.2, abs=0.03 + 1 / (labels == label).sum())


def test_val_follows_its_seed() -> None:
    labels, groups = training()
    first = carve_val(labels, groups, 0.2, 1)
    assert np.array_equal(first, carve_val(labels, groups, 0.2, 1))
    assert not np.array_equal(first, carve_val(labels, groups, 0.2, 2))


def test_val_leaves_groups_whole() -> None:
    labels, groups = training()
    is_val = carve_val(labels, groups, 0.2, 0)
    assert not set(groups[is_val]) & set(groups[~is_val])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_val_of_nobody_and_of_all(share: float) -> None:
    labels, _ = training(100)
    assert carve_val(labels, np.arange(100), share, 0).mean() == share
