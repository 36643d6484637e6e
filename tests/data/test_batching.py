"""Batches: typed, of like length, within their budget, the same on every machine."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rakuten.data.batching import Batch, TokenBudgetSampler, collate
from rakuten.data.preprocess import Example
from rakuten.data.text_encoder import Tokens


def example(num_tokens: int | None, value: int | None = 0) -> Example:
    """A product of `num_tokens` tokens 5, 6, 7, ... and a photo of one gray `value`."""
    tokens = None
    if num_tokens is not None:
        ids = np.arange(5, 5 + num_tokens, dtype=np.int32)
        tokens = Tokens(ids, np.linspace(1, 2, num_tokens, dtype=np.float32))
    return Example(tokens, None if value is None else np.full((3, 4, 4), value, np.uint8))


def batch() -> Batch:
    examples = [example(2, 10), example(None, 20), example(4, None), example(None, None), example(1, 50)]
    return collate(examples, pad_id=1, image_px=4, labels=[3, 1, 4, 1, 5], rows=[9, 8, 7, 6, 5])


def assert_equal(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


# --- collate ------------------------------------------------------------------------------------------------


def test_absent_modalities_take_no_room() -> None:
    made = batch()
    assert len(made) == 5
    assert made.has_text.tolist() == [True, False, True, False, True]
    assert made.has_image.tolist() == [True, True, False, False, True]
    assert made.tokens.tolist() == [[5, 6, 1, 1], [5, 6, 7, 8], [5, 1, 1, 1]]
    assert (made.token_weights > 0).tolist() == [
        [True, True, False, False],
        [True] * 4,
        [True, False, False, False],
    ]
    assert made.token_weights[0, :2].tolist() == [1, 2]
    assert made.pixels.shape == (3, 3, 4, 4)
    assert made.pixels[:, 0, 0, 0].tolist() == [10, 20, 50]
    assert made.labels.tolist() == [3, 1, 4, 1, 5]
    assert made.rows.tolist() == [9, 8, 7, 6, 5]


def test_types() -> None:
    made = batch()
    assert made.tokens.dtype == made.labels.dtype == made.rows.dtype == torch.int64
    assert made.token_weights.dtype == torch.float32
    assert made.pixels.dtype == torch.uint8
    assert made.has_text.dtype == made.has_image.dtype == torch.bool


def test_labels_and_rows_by_default() -> None:
    made = collate([example(1), example(1)], pad_id=0, image_px=4)
    assert made.labels.tolist() == [-1, -1]
    assert made.rows.tolist() == [0, 1]


@pytest.mark.parametrize("examples", [[example(None, 1)], [example(3, None)], [example(None, None)]])
def test_batches_without_a_modality(examples: list[Example]) -> None:
    made = collate(examples, pad_id=1, image_px=4)
    assert made.tokens.shape[0] == made.token_weights.shape[0] == int(made.has_text.sum())
    assert made.pixels.shape[0] == int(made.has_image.sum())
    assert made.pixels.shape[1:] == (3, 4, 4)
    assert made.tokens.ndim == 2


def test_a_batch_owns_its_pixels() -> None:
    """The store is read-only: what a batch holds can be written to without touching it."""
    source = example(1, 7)
    assert source.pixels is not None
    source.pixels.flags.writeable = False
    made = collate([source], pad_id=0, image_px=4)
    made.pixels.add_(1)
    assert source.pixels.max() == 7


# --- without, to --------------------------------------------------------------------------------------------


def test_without_hides_where_the_mask_says() -> None:
    text = torch.tensor([True, True, False, False, False])
    image = torch.tensor([False, False, False, True, True])
    made = batch().without(text=text, image=image)
    assert made.has_text.tolist() == [False, False, True, False, True]
    assert made.has_image.tolist() == [True, True, False, False, False]
    assert made.tokens.tolist() == [[5, 6, 7, 8], [5, 1, 1, 1]]
    assert made.token_weights.shape == (2, 4)
    assert made.pixels[:, 0, 0, 0].tolist() == [10, 20]
    assert torch.equal(made.labels, batch().labels)


@pytest.mark.parametrize("names", [("text",), ("image",), ("text", "image"), ()])
def test_without_everything_and_nothing(names: tuple[str, ...]) -> None:
    all_, none = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    made = batch().without(**dict.fromkeys(names, all_))
    assert made.has_text.any() == ("text" not in names)
    assert made.has_image.any() == ("image" not in names)
    assert_equal(batch().without(text=none, image=none), batch())


def test_hiding_twice_is_hiding_once() -> None:
    mask = torch.tensor([True, False, True, False, False])
    assert_equal(batch().without(text=mask).without(text=mask), batch().without(text=mask))


def test_without_leaves_its_batch_alone() -> None:
    made = batch()
    made.without(text=torch.ones(5, dtype=torch.bool), image=torch.ones(5, dtype=torch.bool))
    assert_equal(made, batch())


def test_to_moves_everything() -> None:
    moved = batch().to("meta")
    assert {getattr(moved, field.name).device.type for field in fields(Batch)} == {"meta"}
    assert_equal(batch().to("cpu", non_blocking=True), batch())


# --- the sampler --------------------------------------------------------------------------------------------


def sampler(lengths: list[int], **changes: object) -> TokenBudgetSampler:
    rules: dict[str, object] = {"batch_size": 8, "token_budget": 200, "seed": 0}
    return TokenBudgetSampler(np.array(lengths, dtype=np.int64), **rules | changes)  # type: ignore[arg-type]


def lengths_of(num: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).geometric(0.02, num).tolist()


def batches(of: TokenBudgetSampler, epoch: int = 0) -> list[list[int]]:
    of.set_epoch(epoch)
    return [list(each) for each in of]


any_lengths = st.lists(st.integers(0, 300), max_size=80)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(any_lengths, st.integers(1, 20), st.integers(1, 500), st.none() | st.integers(0, 3), st.integers(0, 3))
def test_each_row_once_within_size_and_budget(
    lengths: list[int], batch_size: int, budget: int, seed: int | None, epoch: int
) -> None:
    made = sampler(lengths, batch_size=batch_size, token_budget=budget, seed=seed)
    cut = batches(made, epoch)
    assert sorted(row for each in cut for row in each) == list(range(len(lengths)))
    assert len(made) == len(cut)
    for each in cut:
        assert 0 < len(each) <= batch_size
        # One product alone may be longer than the budget: it is cut by no one, and dropped by no one.
        assert len(each) * max(lengths[row] for row in each) <= budget or len(each) == 1


def test_epochs_differ_and_repeat() -> None:
    lengths = lengths_of(500)
    first, second = batches(sampler(lengths), 0), batches(sampler(lengths), 1)
    assert first != second
    assert batches(sampler(lengths), 0) == first
    assert batches(sampler(lengths), 1) == second
    assert batches(sampler(lengths, seed=1), 0) != first


def test_a_resumed_run_goes_on_with_its_epoch() -> None:
    lengths = lengths_of(200)
    undisturbed = sampler(lengths)
    epochs = [batches(undisturbed, epoch) for epoch in range(4)]
    assert batches(sampler(lengths), 3) == epochs[3]


def test_batches_know_their_epoch() -> None:
    made = sampler(lengths_of(50))
    made.set_epoch(4)
    assert {each.epoch for each in made} == {4}


def test_products_meet_others_from_epoch_to_epoch() -> None:
    lengths = [10] * 200
    companies = [{frozenset(each) for each in batches(sampler(lengths), epoch)} for epoch in (0, 1)]
    assert not companies[0] & companies[1]


def test_batches_are_not_sorted_by_length() -> None:
    cut = batches(sampler(lengths_of(2_000)))
    longest = [max(lengths_of(2_000)[row] for row in each) for each in cut]
    assert longest != sorted(longest)


def test_grouping_by_length_saves_padding() -> None:
    lengths = np.array(lengths_of(4_000))
    cut = batches(sampler(lengths.tolist(), batch_size=32, token_budget=10**9))
    padded = sum(len(each) * lengths[each].max() for each in cut)
    order = np.random.default_rng(0).permutation(4_000)
    at_random = sum(32 * lengths[order[start : start + 32]].max() for start in range(0, 4_000, 32))
    assert padded < 0.5 * at_random
    assert padded < 1.25 * lengths.sum()


def test_without_a_seed_batches_are_in_order_of_length() -> None:
    lengths = lengths_of(100)
    cut = batches(sampler(lengths, seed=None))
    assert cut == batches(sampler(lengths, seed=None), 5)
    flat = [lengths[row] for each in cut for row in each]
    assert flat == sorted(flat)


def test_max_batches() -> None:
    made = sampler(lengths_of(500), max_batches=3)
    assert len(made) == len(batches(made)) == 3
    assert len(sampler([5], max_batches=3)) == 1


def test_no_products() -> None:
    assert batches(sampler([])) == []
    assert len(sampler([])) == 0
