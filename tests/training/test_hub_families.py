"""SFT and two steps of GRPO on each family, by its name on the hub, plainly and by chat."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import grape
from models.rewriter.adapter import open_adapter
from models.rewriter.chat import require_template
from tests.support.at_hub import use_hub
from tests.support.hub import Hub, running_hub
from tests.support.hub_chain import write_pictures, write_settings
from tests.support.hub_models import FAMILIES, write_model
from training.stages.language_model import LanguageModel, answer_ends, newline_id

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch, running_hub() as hub:
        use_hub(hub, folder / "cache", patch)
        for key, family in FAMILIES.items():
            hub.repository(family.name).commit(write_model(folder / key, family))
        yield hub


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    built = ["index", "build", str(write_pictures(folder / "pictures"))]
    assert grape.run([*built, "--out", str(folder / "index")]) == 0
    return folder / "index"


@pytest.mark.parametrize(
    ("key", "style"),
    [
        ("qwen2.5", "plain"), ("qwen3", "chat"), ("llama3.2", "plain"), ("llama3.2", "chat"),
        ("gemma3", "chat"), ("smollm2", "chat"),
    ],
)  # fmt: skip
def test_a_family_is_trained(
    filled: Hub, index: Path, tmp_path: Path, key: str, style: str
) -> None:
    name = FAMILIES[key].name
    settings = write_settings(
        tmp_path / "train.yaml", index, name, samples=False, prompt_style=style
    )
    assert grape.run(["train", "--config", str(settings)]) == 0
    base = LanguageModel.named(name)
    adapter = open_adapter(tmp_path / "adapter", base.revision)
    commit = filled.repository(name).names["main"]
    assert adapter.manifest.base_commit == base.commit == commit
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == name
    template = require_template(Path(base.path))
    assert adapter.manifest.chat_template == (template.digest if style == "chat" else None)
    (task,) = adapter.tasks_with(template).values()
    assert (task.chat is not None) is (style == "chat")
    assert any(canary.base != canary.tuned for canary in adapter.manifest.canaries)


@pytest.mark.parametrize("key", FAMILIES)
def test_an_answer_ends_at_a_line_a_text_and_a_turn(filled: Hub, key: str) -> None:
    base = LanguageModel.named(FAMILIES[key].name)
    tokenizer = base.tokenizer()
    ends = answer_ends(base.load(), tokenizer)
    end_of_turn = tokenizer.convert_tokens_to_ids(FAMILIES[key].end_of_turn)
    assert {newline_id(tokenizer), end_of_turn, tokenizer.eos_token_id} == {*ends}
