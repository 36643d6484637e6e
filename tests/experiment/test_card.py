"""A bundle's model card: there, true to the bundle, under its hashes, and harmless whatever the classes are called."""

import json
import re
from pathlib import Path

import pytest

from rakuten.errors import BundleError
from rakuten.experiment.card import write_card
from rakuten.model.bundle_files import check_bundle, copy_bundle, update_info
from tests.experiment.conftest import Shop


def test_it_says_what_the_bundle_is(shop: Shop) -> None:
    info = check_bundle(shop.bundle)
    assert {"card.md", "card.html"} <= info["hashes"].keys()
    text = (shop.bundle / "card.md").read_text(encoding="utf-8")
    scores = json.loads((shop.run / "evaluation/metrics.json").read_text())
    for side in ("val", "test"):
        assert f"| text and photo | {scores[side]['both']['weighted_f1']:.4f} |" in text
    for value in (
        info["lineage"]["rakuten.run_id"],
        info["lineage"]["git_commit"],
        info["lineage"]["data"]["x_train"],
    ):
        assert f"`{value}`" in text
    assert "demo · fusion_small" in text
    assert all(name in text for name in info["labels"]["names"])


def test_the_page_is_whole_and_loads_nothing(shop: Shop) -> None:
    page = (shop.bundle / "card.html").read_text(encoding="utf-8")
    assert page.count("<table>") == page.count("</table>") >= 4
    assert not re.search(r"<script|https?://|src=", page)


def test_a_changed_card_is_noticed(shop: Shop, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy_bundle(shop.bundle, copy)
    (copy / "card.md").write_text("the best model there is")
    with pytest.raises(BundleError, match=r"card\.md is missing, torn or changed"):
        check_bundle(copy)


def test_names_are_shown_not_run(shop: Shop, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy_bundle(shop.bundle, copy)
    labels = check_bundle(copy)["labels"]
    labels["names"][0] = "<script>alert(1)</script>"
    update_info(copy, labels=labels)
    write_card(copy)
    assert "<script" not in (copy / "card.html").read_text(encoding="utf-8")
