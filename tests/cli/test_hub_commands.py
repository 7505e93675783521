"""smdguard pull, info and verify, and what the other commands say of models on the Hub."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import onnx
import pytest
import safetensors.numpy
from huggingface_hub import constants
from rich.console import Console

from smdguard import catalogue
from smdguard.catalogue import read_manifest
from smdguard.cli import info
from smdguard.files import sha256, zoo_folder
from smdguard.golden import make_golden
from smdguard.guard import load
from smdguard.model_folder import CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from smdguard.remote import Repository
from tests.cli.runners import Run
from tests.hub_server import TOKEN, HubServer

NAME = "naive-lenet-mnist"


def run_process(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smdguard", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_pull_says_where_and_how_large(smdguard: Run, distant_model: Repository) -> None:
    num_bytes = 2 * read_manifest().models[0].weights.num_bytes
    line = smdguard("pull", NAME).stdout
    assert line == f"{NAME}: {num_bytes / 1e6:.1f} MB in {distant_model.folder}\n"
    document = json.loads(smdguard("pull", f"{distant_model.name}@{distant_model.commit}", "--json").stdout)
    assert document.keys() == {"model", "path", "num_bytes"}
    assert document["path"] == str(distant_model.folder)


@pytest.mark.parametrize("is_here", [False, True])
def test_pull_of_a_model_whose_audit_was_made_again(
    smdguard: Run, tiny_zoo: Path, distant_model: Repository, is_here: bool
) -> None:
    if is_here:
        smdguard("pull", NAME)
    path = tiny_zoo / "manifest.json"
    audited, manifest = (json.loads(file.read_bytes()) for file in (zoo_folder() / "manifest.json", path))
    manifest["models"][0]["evaluations"] = audited["models"][0]["evaluations"]
    path.write_text(json.dumps(manifest))
    read_manifest.cache_clear()
    assert smdguard("pull", NAME).stdout.endswith(f" in {distant_model.folder}\n")


def test_pull_of_a_model_that_is_here(smdguard: Run, tiny_zoo: Path, tiny_copy: Path) -> None:
    assert smdguard("pull", NAME).stdout.endswith(f" in {tiny_zoo / 'models' / NAME}\n")
    assert smdguard("pull", tiny_copy).stdout.endswith(f" in {tiny_copy}\n")


def test_pull_of_what_is_not_there(one_line: Callable[..., str], hub_server: HubServer) -> None:
    assert "HF_TOKEN" in one_line("pull", "org/nothing")
    assert "there is no model" in one_line("pull", "nothing")
    assert one_line("pull", status=2) == "Missing argument 'NAME'."


def test_unpinned_revision_is_one_line_on_standard_error(smdguard: Run, distant_model: Repository) -> None:
    for _ in range(2):
        result = smdguard("verify", distant_model.name)
        assert result.stdout.startswith(f"{distant_model.name}: 2 files, ")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"Warning: {distant_model.name}@main may stand for other files tomorrow")
        assert line.endswith(f"{distant_model.name}@{distant_model.commit}")


COMMANDS: dict[str, tuple[object, ...]] = {
    "predict": ("predict", Path(__file__).parents[2] / "zoo" / "samples" / "digit-7.png", "--model"),
    "audit": ("audit", "--num-images", 10, "--attacks", "FGSM", "--model"),
    "export": ("export", "--output", "model.onnx"),
    "info": ("info",),
    "pull": ("pull",),
    "verify": ("verify",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_silences_the_warning_of_this_command_alone(
    smdguard: Run, distant_model: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = (*COMMANDS[command], distant_model.name)
    assert smdguard(*arguments, "--quiet").stderr == ""
    assert smdguard(*arguments).stderr.startswith(f"Warning: {distant_model.name}@main may stand for other files")


def test_list_says_what_is_cached(smdguard: Run, distant_model: Repository) -> None:
    where = lambda: json.loads(smdguard("list", "--json").stdout)["models"][0]["where"]  # noqa: E731
    assert where() == "hub"
    smdguard("pull", NAME)
    assert where() == "cached"


def test_info_shows_the_card(smdguard: Run, hub_server: HubServer, distant_model: Repository) -> None:
    assert smdguard("info", NAME).stdout == "# The card\n\n"
    assert [request.path.rpartition("/")[2] for request in hub_server.requests] == [CARD]
    assert json.loads(smdguard("info", NAME, "--json").stdout) == read_manifest().models[0].model_dump(mode="json")


def test_info_of_a_folder(smdguard: Run, one_line: Callable[..., str], tiny_copy: Path) -> None:
    assert json.loads(smdguard("info", tiny_copy, "--json").stdout) == json.loads((tiny_copy / CONFIG).read_bytes())
    (tiny_copy / CONFIG).unlink()
    assert one_line("info", tiny_copy).startswith(f"{tiny_copy} is not a finished model, it has no {CONFIG}; ")


def test_info_of_what_has_no_card_is_what_its_configuration_says(
    smdguard: Run, tiny_copy: Path, edit_config: Callable[..., None]
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="flowers\x1b[2J"))
    shown = smdguard("info", tiny_copy).stdout
    assert shown.startswith(
        "# tiny-lenet-mnist\n\n3 members of the architecture `lenet`, trained on flowers[2J with the objective "
    )
    assert "Images are 1 x 28 x 28, in [0, 1], of 10 classes, 0 to 9. Clean accuracy on the test images: " in shown


def test_info_of_a_repository_without_a_card_is_what_its_configuration_says(
    smdguard: Run,
    one_line: Callable[..., str],
    hub_server: HubServer,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = hub_server.host("org/plain", {file.name: file.read_bytes() for file in tiny_folder.iterdir()})
    shown = smdguard("info", f"org/plain@{commit}")
    assert shown.stdout.startswith("# tiny-lenet-mnist\n\n3 members of the architecture `lenet`, trained on ")
    assert shown.stderr == ""
    assert [request.path.rpartition("/")[2] for request in hub_server.requests] == [CARD, CONFIG]
    assert json.loads(smdguard("info", f"org/plain@{commit}", "--json").stdout)["name"] == "tiny-lenet-mnist"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert smdguard("info", f"org/plain@{commit}").stdout == shown.stdout
    assert "HF_HUB_OFFLINE forbids" in one_line("info", f"org/nothing@{commit}")


@pytest.mark.parametrize("terminal", [True, False])
def test_card_does_not_command_the_terminal(
    smdguard: Run, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    card = "# Title\n\n[here](https://example.org)\x1b]0;title\x07\x1b[2J\u202e\x9b5mplain\n"
    (tiny_copy / CARD).write_text(card)
    console = Console(force_terminal=terminal, color_system=None, width=80)
    monkeypatch.setattr(sys.modules[info.callback.__module__], "output_console", lambda: console)
    with console.capture() as capture:
        shown = smdguard("info", tiny_copy).stdout
    shown += capture.get()
    assert "Title" in shown
    assert "https://example.org" in shown
    assert "]0;title[2J5mplain" in shown.replace("\n", "")
    assert not {"\x07", "\u202e", "\x9b"} & set(shown)
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown


def test_verify_without_a_name_is_all_that_is_here(smdguard: Run, tiny_zoo: Path, distant_model: Repository) -> None:
    result = smdguard("verify")
    here = ["naive-lenet-mnist-s1", "smd-lenet-mnist-s1"]
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == here
    assert all(" MB, verified" in line for line in result.stdout.splitlines())
    smdguard("pull", NAME)
    assert [line.partition(":")[0] for line in smdguard("verify").stdout.splitlines()] == [NAME, *here]


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, ONNX])
def test_verify_finds_damage_and_goes_on(smdguard: Run, tiny_zoo: Path, tiny_copy: Path, file: str) -> None:
    path = tiny_zoo / "models" / NAME / file
    path.write_bytes(path.read_bytes()[::-1])
    result = smdguard("verify", NAME, tiny_copy, "no-such-model", status=1)
    assert result.stdout.startswith(f"{tiny_copy}: 2 files, ")
    damaged, unknown = result.stderr.splitlines()
    assert damaged.startswith(f"Error: {NAME}: {path} is not ")
    assert unknown.startswith("Error: no-such-model: there is no model")
    rows = json.loads(smdguard("verify", NAME, tiny_copy, "--json", status=1).stdout)["models"]
    assert ["error" in row for row in rows] == [True, False]


def test_verify_asks_for_the_golden_outputs(
    smdguard: Run, tmp_path: Path, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with the golden outputs of another."""
    monkeypatch.undo()
    catalogue.read_manifest.cache_clear()
    real = catalogue.zoo_folder() / "models" / NAME
    zoo = tmp_path / "real"
    shutil.copytree(real, zoo / "models" / NAME)
    manifest = json.loads((catalogue.zoo_folder() / "manifest.json").read_bytes())
    manifest["models"] = [entry for entry in manifest["models"] if entry["name"] == NAME]
    golden = zoo / "models" / NAME / "golden.safetensors"
    tensors = safetensors.numpy.load(golden.read_bytes())
    tensors["member_probabilities"] = tensors["member_probabilities"][::-1].copy()
    golden.write_bytes(safetensors.numpy.save(tensors))
    config = json.loads((zoo / "models" / NAME / CONFIG).read_bytes())
    digest = sha256(golden.read_bytes())
    config["files"]["golden.safetensors"]["sha256"] = digest
    (zoo / "models" / NAME / CONFIG).write_text(json.dumps(config))
    manifest["models"][0]["training"]["config_sha256"] = sha256((zoo / "models" / NAME / CONFIG).read_bytes())
    (zoo / "manifest.json").write_text(json.dumps(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "zoo_folder", lambda: zoo)
        assert "differs by" in smdguard("verify", status=1).stderr
        # The same folder, of which no manifest speaks.
        assert "differs by" in smdguard("verify", zoo / "models" / NAME, status=1).stderr
    catalogue.read_manifest.cache_clear()


@pytest.fixture
def golden_copy(tiny_copy: Path, edit_config: Callable[..., None]) -> Path:
    """The tiny model with golden outputs of its own."""
    images = numpy.random.default_rng(0).integers(0, 256, (16, 1, 28, 28), numpy.uint8)
    (tiny_copy / GOLDEN).write_bytes(make_golden(load(str(tiny_copy), device="cpu").backend, images))
    digest = {"sha256": sha256((tiny_copy / GOLDEN).read_bytes()), "num_bytes": (tiny_copy / GOLDEN).stat().st_size}
    edit_config(tiny_copy, lambda config: config["files"].update({GOLDEN: digest}))
    return tiny_copy


def changed_weights(content: bytes) -> bytes:
    tensors = safetensors.numpy.load(content)
    return safetensors.numpy.save({name: 1.01 * tensor for name, tensor in tensors.items()})


def changed_graph(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(tensor), tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("file", "change", "back_end"), [(WEIGHTS, changed_weights, "torch"), (ONNX, changed_graph, "onnx")]
)
def test_verify_asks_every_back_end_for_the_golden_outputs(
    smdguard: Run,
    golden_copy: Path,
    edit_config: Callable[..., None],
    file: str,
    change: Callable[[bytes], bytes],
    back_end: str,
) -> None:
    assert smdguard("verify", golden_copy).stdout.startswith(f"{golden_copy}: 3 files, ")
    (golden_copy / file).write_bytes(change((golden_copy / file).read_bytes()))
    edit_config(golden_copy, lambda config: None)
    line = smdguard("verify", golden_copy, status=1).stderr
    assert f"{golden_copy} on {back_end}: a probability differs by" in line


def test_verify_of_a_graph_alone_imports_no_torch(golden_copy: Path, edit_config: Callable[..., None]) -> None:
    edit_config(golden_copy, lambda config: config["files"].pop(WEIGHTS))
    script = (
        "import sys\nfrom smdguard.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, "verify", str(golden_copy)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.stdout.startswith(f"{golden_copy}: 2 files, ")
    assert answer.stderr == "False\n"


def test_verify_makes_no_members_of_the_users_own(
    smdguard: Run, golden_copy: Path, edit_config: Callable[..., None]
) -> None:
    edit_config(golden_copy, lambda config: config["architecture"].update(name="own_members:network"))
    assert smdguard("verify", golden_copy).stdout.endswith(" MB, verified\n")
    edit_config(golden_copy, lambda config: config["files"].pop(ONNX))
    # Without the graph nothing is left to ask.
    assert smdguard("verify", golden_copy).stdout.endswith(" MB, verified, but golden outputs were not checked\n")
    (row,) = json.loads(smdguard("verify", golden_copy, "--json").stdout)["models"]
    assert row["golden_outputs_on"] == []


# The environment, in processes of their own, for the Hub's client reads it when it is imported.


@pytest.mark.parametrize("variable", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
@pytest.mark.parametrize("revision", ["main", "0" * 40])
def test_a_time_limit_that_is_no_number_is_one_line(
    hub_environment: dict[str, str], variable: str, revision: str
) -> None:
    answer = run_process("pull", f"org/x@{revision}", env={**hub_environment, variable: "soon"})
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: a variable HF_... of the environment has a value that is refused: invalid literal for int() with base "
        "10: 'soon'\n"
    )


def test_dead_network_is_one_line(hub_environment: dict[str, str], distant_model: Repository) -> None:
    with socket.socket() as probe:  # Bound, but not listening.
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        answer = run_process("pull", f"org/x@{'0' * 40}", env={**hub_environment, "HF_ENDPOINT": endpoint})
    assert (answer.returncode, answer.stdout) == (1, "")
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"Error: {endpoint} cannot be asked for {CONFIG} of org/x@000")


def test_environment_is_respected(
    hub_server: HubServer, hub_environment: dict[str, str], tiny_folder: Path, tmp_path: Path
) -> None:
    files = {file.name: file.read_bytes() for file in tiny_folder.iterdir()}
    name = f"org/secret@{hub_server.host('org/secret', files, private=True)}"
    offline, token = {"HF_HUB_OFFLINE": "1"}, {"HF_TOKEN": TOKEN}
    cold = run_process("pull", name, env={**hub_environment, **offline})
    assert "HF_HUB_OFFLINE forbids" in cold.stderr
    assert run_process("pull", name, env={**hub_environment, **token}).returncode == 0
    warm = run_process("pull", name, "--json", env={**hub_environment, **offline})
    assert Path(json.loads(warm.stdout)["path"]).is_relative_to(tmp_path / "cache" / "hub")


def test_command_line_starts_without_what_only_commands_need() -> None:
    heavy = "{'huggingface_hub', 'numpy', 'pydantic', 'rich', 'torch'}"
    script = f"import sys, smdguard.cli; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


def test_verify_finds_an_audit_that_is_not_the_one_of_the_manifest(
    smdguard: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(catalogue.zoo_folder() / "models" / NAME, zoo / "models" / NAME)
    shutil.copy(catalogue.zoo_folder() / "manifest.json", zoo)
    monkeypatch.setattr(catalogue, "zoo_folder", lambda: zoo)
    assert smdguard("verify", NAME).stdout.startswith(f"{NAME}: 3 files")
    audit = zoo / "models" / NAME / "audit.json"
    audit.write_bytes(audit.read_bytes().replace(b'"fragile"', b'"robust"'))
    assert "audit.json is not the file that the manifest names" in smdguard("verify", NAME, status=1).stderr
