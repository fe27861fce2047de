import dataclasses
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from deepfake_detect.weights.card import Card, Preprocessing
from deepfake_detect.weights.model_card import write_model_card

CARD = Card(
    name="mine",
    version=2,
    architecture="xception",
    preprocessing=Preprocessing(size_px=160, margin=1.25),
    temperature=2.0,
    bias=-0.5,
    threshold=0.61,
    uncertain=(0.4, 0.7),
    hub_repo="owner/mine",
    licence="CC BY-NC-SA 4.0",
    training_data=(
        "portraits of https://huggingface.co/datasets/owner/faces.v2, cropped",
        'twins: "real" | fake, from FF++/c23 and hf://datasets/owner/twins.',
    ),
    recipe="python -m recipes.mine --data PATH",
    metrics={
        "dfdc": {
            "n": 500,
            "auc": 0.91234,
            "auc interval": [0.9, 0.93],
            "collapsed": False,
            "by generator": {"sd | 1.4": {"auc": 0.8}, "sdxl": {"auc": float("nan"), "note": "few"}},
        },
        "ciplab": {"auc": 0.6, "n": 100},
    },
    limits=("Small faces\nare a coin toss.",),
)
BARE = Card(name="bare", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=256))


def facts(card: Card) -> dict[str, object]:
    return ModelCard(write_model_card(card)).data.to_dict()


def test_the_client_of_the_hub_reads_the_front_matter(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(write_model_card(CARD), encoding="utf-8")
    found = metadata_load(tmp_path / "README.md")
    assert found is not None
    assert found["license"] == "cc-by-nc-sa-4.0" and "license_name" not in found
    assert found["library_name"] == "deepfake-detect"
    assert found["pipeline_tag"] == "image-classification"
    assert found["tags"] == ["deepfake-detection", "safetensors", "xception"]
    assert found["datasets"] == ["owner/faces.v2", "owner/twins"]  # not FF++/c23, which is no repository


def test_the_client_of_the_hub_reads_the_figures() -> None:
    results = ModelCard(write_model_card(CARD)).data.eval_results
    assert [
        (result.dataset_name, result.dataset_type, result.metric_type, result.metric_value) for result in results
    ] == [
        ("dfdc", "dfdc", "auc", 0.91234),
        ("dfdc / by generator / sd | 1.4", "dfdc-by-generator-sd-1.4", "auc", 0.8),
        ("ciplab", "ciplab", "auc", 0.6),
    ]
    assert all(result.task_type == "image-classification" for result in results)


def test_figures_as_a_table() -> None:
    table = [line for line in write_model_card(CARD).splitlines() if line.startswith("|")]
    assert table == [
        "|  | n | auc | auc interval | collapsed | note |",
        "| --- | --- | --- | --- | --- | --- |",
        "| dfdc | 500 | 0.912 | 0.900 to 0.930 | False |  |",
        "| dfdc / by generator / sd \\| 1.4 |  | 0.800 |  |  |  |",
        "| dfdc / by generator / sdxl |  | nan |  |  | few |",
        "| ciplab | 100 | 0.600 |  |  |  |",
    ]


def test_the_page_says_what_one_must_know() -> None:
    page = write_model_card(CARD)
    for words in (
        "# mine, version 2",
        'detector = Detector.from_pretrained("owner/mine")',
        "a square 1.25 times its box, resized to 160 px\n(bicubic)",
        "`fake` from a score of 0.61 on. Between 0.4 and 0.7 it is `uncertain`",
        "sigmoid(logit / 2 + -0.5)",
        "- Small faces are a coin toss.",
        "```\npython -m recipes.mine --data PATH\n```",
        "CC BY-NC-SA 4.0",
    ):
        assert words in page


def test_a_bare_card_says_what_is_not_known() -> None:
    page = write_model_card(BARE)
    assert facts(BARE).keys() == {"license", "library_name", "pipeline_tag", "tags"}
    assert facts(BARE)["license"] == "unknown"
    assert page.count("Not recorded.") == 3 and "None are recorded." in page
    assert 'from_pretrained("bare@0")' in page and "uncertain" not in page


def test_the_calibration_is_told_with_its_figures() -> None:
    told = {
        "method": "platt",
        "n": 120,
        "n_groups": 60,
        "max_false_alarm": None,
        "ece_before": 0.21,
        "ece_after": 0.0312,
    }
    page = write_model_card(
        dataclasses.replace(BARE, calibration={**told, "note": "A probability for\npictures like these."})
    )
    section = page.split("## Calibration\n\n")[1].split("\n\n## Figures")[0]
    assert section.splitlines() == [
        "A probability for pictures like these.",
        "",
        "- method: platt",
        "- pictures: 120",
        "- groups: 60",
        "- calibration error before: 0.21",
        "- calibration error after, on pictures left out of the fit: 0.0312",
    ]
    promised = write_model_card(dataclasses.replace(BARE, calibration={"false_alarm_bound_95": 0.01504}))
    assert "with 95 % confidence: 0.01504" in promised  # not rounded down


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("MIT, for research", {"license": "other", "license_name": "mit-for-research"}),
        ("", {"license": "unknown"}),
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("CC BY 9.0", {"license": "other", "license_name": "cc-by-9.0"}),
        (
            "research only: see DFDC's terms",
            {"license": "other", "license_name": "research-only-see-dfdc-s-terms"},
        ),
    ],
)
def test_licences_are_named_as_the_hub_names_them(licence: str, expected: dict[str, str]) -> None:
    front_matter = facts(dataclasses.replace(BARE, licence=licence))
    assert {key: value for key, value in front_matter.items() if key.startswith("license")} == expected


@pytest.mark.parametrize("name", ["--- ", "a: b", "#", '"\\', "é 😀", "line\n---\nbreak", "null", "[", "{% raw %}"])
def test_any_text_survives_yaml(name: str) -> None:
    card = dataclasses.replace(BARE, name=name, metrics={name: {name: 0.5}})
    front = yaml.safe_load(write_model_card(card).split("\n---\n")[0])
    (index,) = front["model-index"]
    assert index["name"] == name
    assert index["results"][0]["dataset"]["name"] == name
    assert index["results"][0]["metrics"] == [{"type": name, "value": 0.5}]
