"""What must stay true of the whole source, whoever changes it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_engine import errors
from rlhf_engine.config import fields, preset_text
from rlhf_engine.errors import ConfigError, RlhfError

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("rlhf_engine/**/*.py"), *ROOT.glob("rlhf_tui/**/*.py")])
MAKERS = sorted(ROOT.glob("storyteller_maker/**/*.py"))  # of the storyteller: in the repository, not in the wheel
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in SOURCES}
EVERYTHING = [item for _, item in fields.catalogue()]


def unchecking(tree: ast.AST) -> Iterator[ast.AST]:
    """All that stands in a module, but for validators of settings."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.FunctionDef) and any("validator" in ast.unparse(each)
                                                          for each in node.decorator_list)):
            yield node
            yield from unchecking(node)


def test_every_setting_is_read_by_the_engine():
    """Attribute accesses count, those of validators do not: a bound that is checked is not a setting in use."""
    read = {node.attr for path, tree in TREES.items() if "rlhf_engine" in path.parts for node in unchecking(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    unread = [item.path for item in EVERYTHING if item.name not in read]
    assert unread == []


def test_every_setting_has_help_and_a_known_range():
    for item in EVERYTHING:
        assert item.help, item.path
        assert item.allowed, item.path


@pytest.mark.parametrize("pattern", [
    r"weights_only\s*=\s*False", r"trust_remote_code\s*=\s*True", r"\bpickle\b(?! )",
    r"(?<!safetensors\.)\btorch\.(load|save)\(", r"shell\s*=\s*True", r"os\.system\(", r"\b(eval|exec)\(",
])
def test_nothing_unsafe_is_in_the_source(pattern: str):
    found = [f"{path.relative_to(ROOT)}:{number}" for path in [*SOURCES, *MAKERS]
             for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
             if re.search(pattern, line) and not line.lstrip().startswith("#") and ".eval(" not in line]
    assert found == []


def test_no_module_imports_pickle_or_opens_a_network_listener():
    banned = {"pickle", "cPickle", "dill", "marshal", "shelve", "socket", "socketserver", "http.server", "xmlrpc"}
    makers = [(path, ast.parse(path.read_text(encoding="utf-8"), str(path))) for path in MAKERS]
    for path, tree in [*TREES.items(), *makers]:
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not banned & set(names), path


def test_a_preset_cannot_ask_for_a_models_own_code():
    for text in ("[model]\ntrust_remote_code = true", "trust_remote_code = true"):
        with pytest.raises(ConfigError, match="trust_remote_code: no such setting"):
            preset_text.parse(f"prompts = ['x']\n{text}\n[[rewards]]\nkind = 'length'\n", "preset.toml")


@pytest.mark.parametrize(("package", "least"), [("torch", (2, 10)), ("transformers", (5, 3))])
def test_versions_with_known_holes_in_loading_are_not_accepted(package: str, least: tuple[int, int]):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (floor,) = [re.match(rf"{package}>=(\d+)\.(\d+)", line) for line in wanted if re.match(rf"{package}\W", line)]
    assert floor
    assert (int(floor[1]), int(floor[2])) >= least


def test_everything_that_is_printed_passes_one_place():
    """There, what a stream cannot encode is degraded, a stream that cannot be written is told in a sentence, and no
    text commands the terminal. `streams` moves what others print."""
    printing = {"print", "input", "echo", "secho", "prompt", "getpass", "print_exc", "print_exception",
                "print_stack", "print_tb", "warn", "rprint", "getLogger", "basicConfig", "StreamHandler"}
    of_streams = re.compile(r"sys\.(__)?std(out|err)(__)?\.(buffer|write|writelines)|os\.write\((1|2|sys)\b|"
                            r"file\s*=\s*sys\.|Console\(|(typer|click)\.(confirm|edit|launch)")
    for path, tree in TREES.items():
        name = path.relative_to(ROOT).as_posix()
        if name in ("rlhf_engine/commands/console.py", "rlhf_engine/system/streams.py"):
            continue
        calls = {node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                 for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & printing, name
        assert not of_streams.search(path.read_text(encoding="utf-8")), name


def test_what_is_written_as_json_passes_one_place():
    """There, what is not finite is null, and what a terminal would obey an escape."""
    allowed = {"rlhf_engine/files/json_text.py",
               "rlhf_engine/runs/checkpoint.py",  # where a number that is not finite must be an error
               # neither written nor shown: digests, and a conversation that the model reads
               "rlhf_engine/data/rows.py", "rlhf_engine/data/tables.py",
               "rlhf_engine/model_folders/fingerprint.py", "rlhf_engine/models/passed_checks.py",
               "rlhf_engine/model_folders/adapter_folder.py",
               "rlhf_engine/models/expressions.py",
               "rlhf_engine/exporting/tokenizer.py"}  # as transformers writes it
    found = [path.relative_to(ROOT).as_posix() for path in SOURCES
             if re.search(r"json\.dumps?\(", path.read_text(encoding="utf-8"))]
    assert set(found) <= allowed


def test_only_the_run_directory_and_the_checkpoint_write_files_of_a_run():
    """Who else calls a writing function has a folder of its own, named here with it."""
    allowed = {
        "rlhf_engine/files/disk.py", "rlhf_engine/runs/run_dir.py", "rlhf_engine/runs/checkpoint.py",
        "rlhf_engine/runs/run_status.py", "rlhf_engine/runs/truncation.py",  # of the run directory, for it
        "rlhf_engine/runs/reward_version_files.py",  # in the run's directory, too
        "rlhf_engine/runs/sweep_dir.py",  # which runs belong together, in a folder beside them
        "rlhf_engine/runs/pipeline_dir.py",  # labels and what came of them, in a folder beside the runs
        "rlhf_engine/config/presets.py",  # the user's presets
        "rlhf_engine/runs/trust.py",    # which reward code the user trusts, in the user's config folder
        "rlhf_engine/commands/rows_out.py",  # the file that the user names
        # the folder that the user names
        "rlhf_engine/exporting/export.py", "rlhf_engine/exporting/tokenizer.py", "rlhf_engine/exporting/classifier.py",
        "rlhf_engine/model_folders/user_cache.py",  # digests and checks that are known, in the user's cache folder
        "rlhf_tui/terminal/clipboard.py",   # a file beside what was copied
        "rlhf_tui/areas/preferences/preferences_file.py",    # what the workbench remembers of its user
        "rlhf_tui/terminal/own_editor.py",  # a text for the editor, in a folder that goes with it
        "rlhf_tui/areas/samples/favourites.py",  # samples that the user marked, in the user's data folder
        "rlhf_tui/terminal/crash_log.py",  # the log of a crash, in the user's log folder
    }
    writers = {"write_text", "write_bytes", "replace_text", "write_new", "append_line", "save_file"}
    for path, tree in TREES.items():
        name = path.relative_to(ROOT).as_posix()
        if name in allowed:
            continue
        calls = {node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                 for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & writers, name


def test_what_errors_of_others_say_is_cut_to_a_sentence():
    """`first_line` does that. A library's error may quote megabytes, and give addresses of its documentation."""
    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, RlhfError)}
    ours |= {"UntrustedCodeError", "TomlError"}
    found = []
    for path, tree in TREES.items():
        name = path.relative_to(ROOT).as_posix()
        if name in (
            "rlhf_engine/runs/checkpoint.py", "rlhf_engine/runs/checkpoint_content.py",  # a ValueError of ours
            # where it is of our own kinds
            "rlhf_engine/training/fork.py", "rlhf_engine/models/model_check.py", "rlhf_tui/areas/rewards/scoring.py",
            "rlhf_engine/commands/console.py", "rlhf_engine/files/toml_text.py",  # of known length
        ):
            continue
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name):
            caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            names = {getattr(kind, "id", getattr(kind, "attr", "")) for kind in caught}
            if all(kind in ours or kind.startswith("_") for kind in names):
                continue
            for node in ast.walk(handler):
                quoted = node.value if isinstance(node, ast.FormattedValue) else (
                    node.args[0] if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("str", "repr")
                    else None)
                if isinstance(quoted, ast.Name) and quoted.id == handler.name:
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_folders_are_made_for_the_user_alone():
    """As `own_files` makes them, or with a mode of their own."""
    for path, tree in TREES.items():
        name = path.relative_to(ROOT).as_posix()
        # an export is for others: as the umask has it
        if name in ("rlhf_engine/exporting/export.py", "rlhf_engine/exporting/classifier.py"):
            continue
        assert "ensure_exists" not in path.read_text(encoding="utf-8"), name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("mkdir", "makedirs"):
                assert any(keyword.arg == "mode" for keyword in node.keywords), name


def test_what_others_may_have_written_is_read_through_one_door():
    """Who opens a file by itself opens one of another kind, named here with it."""
    allowed = {
        "rlhf_engine/files/reading.py",  # the door
        "rlhf_engine/files/disk.py", "rlhf_engine/files/own_files.py",  # to write
        "rlhf_engine/runs/run_output.py",  # the log, to write
        "rlhf_engine/runs/run_lock.py", "rlhf_engine/runs/trust.py",  # locks
        "rlhf_engine/runs/hand_over.py", "rlhf_engine/system/streams.py",  # logs to write, and /dev/null
        "rlhf_engine/commands/doctor.py", "rlhf_engine/models/processor.py",  # of the system
        "rlhf_engine/runs/checkpoint.py",  # sums of weights
        "rlhf_tui/terminal/own_editor.py",  # what the user's editor left in a folder of ours
        "rlhf_tui/areas/preferences/preferences_file.py",  # the lock of the folder that they lie in
        "rlhf_tui/terminal/driver.py",  # the terminal
        "rlhf_engine/storyteller/__init__.py", "rlhf_engine/exporting/tokenizer.py",  # our own data
    }
    for path, tree in TREES.items():
        name = path.relative_to(ROOT).as_posix()
        if name in allowed:
            continue
        for call in (node.func for node in ast.walk(tree) if isinstance(node, ast.Call)):
            opens = ast.unparse(call) in ("open", "io.open", "os.open", "os.fdopen", "FileIO")
            assert not opens, f"{name}:{call.lineno}"
            assert not (isinstance(call, ast.Attribute) and call.attr in ("read_text", "read_bytes")), name


@pytest.mark.parametrize("modules", [
    {"rlhf_engine.runs.run_dir": ["torch", "textual"], "rlhf_engine.config.presets": ["torch", "textual"],
     "rlhf_engine.session": ["torch", "textual"], "rlhf_engine.evaluation.compare": ["torch", "textual"],
     "rlhf_engine.rewards.build": ["torch", "textual"],
     "rlhf_engine.training.trainer": ["textual", "rich", "plotext"]},
    {"rlhf_tui.app": ["torch", "transformers", "peft"]},
], ids=["engine", "screen"])
def test_importing_a_module_does_not_pull_in_what_it_must_not(modules: dict[str, list[str]]):
    """One after the other in one process, for starting one takes longer than importing: the later may have more."""
    script = (f"import importlib, sys\nfor module, absent in {modules}.items():\n    importlib.import_module(module)\n"
              "    print(module, [name for name in absent if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.splitlines() == [f"{module} []" for module in modules], done.stderr


def test_no_source_names_a_path_of_a_developers_machine():
    for path in [*SOURCES, *MAKERS, *ROOT.glob("tests/**/*.py"), *ROOT.glob("presets/*.toml"), *ROOT.glob("*.md")]:
        assert not re.search(r"(?<![\w.])/(work|root|home/\w+)/", path.read_text(encoding="utf-8")), path
