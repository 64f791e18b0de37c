"""Cards say what the records say, and the Hub can read them."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard, ModelCard

from data_cards.synthetic_portraits import CARD, make_card
from prefkit.cards import model_card
from prefkit.loop.sizes import DEMO

RUN = {
    "finished": True,
    "config": {"beta": 500.0, "objective": "dpo", "loss_type": "sigmoid", "unset": None},
    "seed": 3,
    "dataset": {"folder": "pairs", "fingerprint": "0123456789abcdef"},
    "backbone": {"name": "tiny", "weights_hash": "fedcba9876543210"},
    "counts": {"train_pairs": 6, "test_pairs": 2, "sources": {"simulated": 8}},
    "versions": {"torch": "2.13.0"},
    "history": [
        {"loss": 0.6931, "step": 1},
        {"loss": 0.5123, "step": 20},
        {"eval_loss": 0.6, "eval_accuracy": 0.75, "eval_runtime": 2.0, "step": 20},
    ],
    "seconds": 12.3,
    "adapter_hash": "00112233aabbccdd",
}
EVALUATION = {
    "results": [
        {
            "metric": "true_lip_sync", "direction": "higher", "base_mean": 0.5, "tuned_mean": 0.7,
            "win_rate": 0.9, "win_rate_low": 0.8, "win_rate_high": 0.97,
        },
        {"metric": "sync_c", "direction": "higher", "base_mean": None},
    ]
}  # fmt: skip


def test_a_model_card_is_made_of_the_run(tmp_path):
    marker = {"funnel": [{"step": "pairs", "total": 9, "dropped": {"tie": 1}, "left": 8}], "warnings": ["Look out."]}
    text = model_card(RUN, evaluation=EVALUATION, dataset=marker, licence="apache-2.0")
    (tmp_path / "README.md").write_text(text)
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "diffusers")
    assert "simulated-votes" in card.data.tags
    for said in (
        "All preferences it was tuned on are simulated", "`00112233aabbccdd`", "fingerprint `0123456789abcdef`",
        "6 train pairs", "0.6931 at step 1, 0.5123 at step 20",
        "loss 0.6000, accuracy 0.7500", "| pairs | 9 | 1 tie | 8 |",
        "| true_lip_sync | higher | 0.500 | 0.700 | 90 % | 80 – 97 % |",
        "**Look out.**", '"beta": 500.0', "torch 2.13.0",
    ):  # fmt: skip
        assert said in text, said
    assert "sync_c" not in text and "unset" not in text and "None" not in text and "{{" not in text


def test_a_model_card_of_an_unfinished_run_on_peoples_votes_says_so():
    run = RUN | {"finished": False, "adapter_hash": None, "history": []}
    run["counts"] = {"train_pairs": 1, "test_pairs": 0, "sources": {"human": 1}}
    text = model_card(run)
    assert "This run is not finished" in text and "simulated" not in text
    assert "Not evaluated" in text and "no training loss was logged" in text


def stable(card: str) -> dict[str, str]:
    """Section -> its text without numbers, which follow from the size of the set, and without hashes."""
    sections = re.split(r"^## ", card, flags=re.MULTILINE)
    found = {section.splitlines()[0]: section for section in sections[1:]} | {"head": sections[0]}
    kept = ("head", "Where the clips come from", "Licence and consent", "Known biases", "Use")
    return {name: re.sub(r"[-\d.]+ ?%?", "#", re.sub(r"`[0-9a-f]{8,}`", "`#`", found[name])) for name in kept}


@pytest.mark.filterwarnings("ignore")
def test_the_shipped_card_is_what_the_code_makes():
    small = replace(DEMO, train=5, test=2, candidates=3, comparisons=2, votes=2, annotators=3)
    made, shipped = make_card(small), CARD.read_text()
    assert stable(made) == stable(shipped)
    assert DatasetCard(shipped).data.to_dict() == DatasetCard(made).data.to_dict()
    assert "All votes in this dataset are simulated" in shipped and "All portraits are synthetic" in shipped
