"""Rules of the house that code alone would not keep: who imports whom, no telescope in the kernel, nothing executed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KERNEL = ROOT / "kernel" / "pl_kernel"
PLUGINS = ROOT / "plugins"
PARENTS = {
    "hif": set(), "hsd": set(), "sim": set(), "hifa": {"hif"}, "hifv": {"hif"}, "hifas": {"hif", "hifa"},
    "vlass": {"hif", "hifv"}, "hsdn": {"hsd"},
}  # fmt: skip
TELESCOPES = re.compile(r"(?<![a-z])(alma|vla|evla|jvla|nobeyama|vlass)(?![a-z])", re.IGNORECASE)


def sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sources(folder)]


OURS = code_of(KERNEL, *(p for plugin in PARENTS for p in [PLUGINS / plugin / f"pl_{plugin}"]))


def imported(path: Path) -> list[tuple[str, bool]]:
    """Absolute names of the modules a file imports, and whether the import stands at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module, id(node) in top))
    return found


def test_the_kernel_imports_no_plugin():
    for path in sources(KERNEL):
        for module, _ in imported(path):
            assert not re.match(r"pl_(?!kernel\b)", module), f"{relative(path)} imports {module}"


@pytest.mark.parametrize("plugin", sorted(PARENTS))
def test_a_plugin_imports_only_its_parents(plugin):
    allowed = {f"pl_{name}" for name in PARENTS[plugin]} | {f"pl_{plugin}", "pl_kernel"}
    for path in sources(PLUGINS / plugin / f"pl_{plugin}"):
        for module, _ in imported(path):
            if module.startswith("pl_"):
                assert module.partition(".")[0] in allowed, f"{relative(path)} imports {module}"


def test_casa_is_imported_in_one_place_and_never_at_the_top():
    """The simulator writes measurement sets before there is a run, and reduces them with CASA alone as a yardstick."""
    simulator = [PLUGINS / "sim" / "pl_sim" / name for name in ("casa.py", "rawcasa.py")]
    doors = (*sources(KERNEL / "casa"), *simulator)
    for path in OURS:
        for module, at_top in imported(path):
            if module.partition(".")[0] in ("casatools", "casatasks"):
                assert path in doors, f"{relative(path)} imports {module}"
                assert not at_top, f"{relative(path)} imports {module} at its top level"


def test_the_command_line_imports_nothing_heavy_at_the_top():
    for path in sources(KERNEL / "cli"):
        for module, at_top in imported(path):
            if at_top:
                heavy = ("numpy", "astropy", "matplotlib", "scipy", "rich", "yaml")
                assert module.partition(".")[0] not in heavy, f"{relative(path)} imports {module}"


def test_no_telescope_is_named_in_the_kernel():
    """But in documentation: docstrings and comments may give examples."""
    import io
    import tokenize

    kinds = (".py", ".html", ".js", ".css", ".yaml", ".j2", ".in")
    for path in sorted(p for p in KERNEL.rglob("*") if p.suffix in kinds):
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".py":
            assert not TELESCOPES.search(text), f"{relative(path)} names a telescope"
            continue
        docstrings = _docstring_lines(text)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT or token.start[0] in docstrings:
                continue
            if token.type in (tokenize.NAME, tokenize.STRING) or "FSTRING" in tokenize.tok_name[token.type]:
                assert not TELESCOPES.search(token.string), f"{relative(path)}:{token.start[0]} {token.string}"


def _docstring_lines(text: str) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_nothing_is_pickled_on_disk_and_nothing_read_is_executed():
    """What processes of one run say to each other over a pipe is another matter: that module is named here."""
    pipes = {KERNEL / "compute" / "process.py", KERNEL / "compute" / "serve.py", KERNEL / "compute" / "pool.py"}
    for path in OURS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path not in pipes:
            for module, _ in imported(path):
                assert module not in ("pickle", "dill", "cloudpickle", "shelve", "marshal"), relative(path)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            where = f"{relative(path)}:{node.lineno}"
            if isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), where
            if isinstance(node.func, ast.Attribute):
                called = f"{getattr(node.func.value, 'id', '')}.{node.func.attr}"
                assert called not in ("os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"), where
                assert node.func.attr != "dump" or getattr(node.func.value, "id", "") != "pickle", where
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and getattr(keyword.value, "value", None) is True
                assert not shell, f"{where} runs a shell"
                pickled = keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is True
                assert not pickled, f"{where} loads pickles"


def test_pipes_do_not_write_pickles_to_files():
    for path in (KERNEL / "compute").glob("*.py"):
        assert not re.search(r"pickle\.(dump|load)\(", path.read_text()), relative(path)


def test_a_parameter_of_any_type_has_a_check_of_its_own():
    """Otherwise nonsense is found out by the stage, hours after the run began."""
    from pl_kernel.params import parameters
    from pl_kernel.plugins import registry

    known = registry()
    stages = known.stages
    unchecked = [
        f"{name}.{parameter.name}"
        for name in stages
        for parameter in parameters(known.stage(name).inputs_class).values()
        if "typing.Any" in str(parameter.type) and parameter.check is None
    ]
    assert len(stages) > 50
    assert unchecked == []


def test_import_contracts_hold():
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"], cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["kernel", *(f"plugins/{name}" for name in sorted(PARENTS))])
def test_every_package_can_stand_alone(package):
    """Its own name, version, readme, licence, changelog and entry point."""
    import tomllib

    folder = ROOT / package
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"].startswith("pl-") and project["version"]
    assert project["license"] == "BSD-3-Clause"
    assert project["requires-python"].startswith(">=3.11")
    assert len(project["entry-points"]["pl.plugins"]) == 1
    for file in ("README.md", "CHANGELOG.md", "LICENSE"):
        assert (folder / file).stat().st_size > 0
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (folder / "CHANGELOG.md").read_text().count(project["version"])


@pytest.mark.parametrize("plugin", ["hifa", "hifas", "vlass"])
def test_a_skeleton_lists_itself_and_pretends_nothing(plugin):
    from pl_kernel.plugins import Registry

    info = {p.name: p for p in Registry().plugins}[plugin]
    assert info.accepted, info.reason
    assert (info.version, info.stages, info.recipes, info.commands) == ("0.1.0", (), (), ())
