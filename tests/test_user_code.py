import sys

import pytest
from pydantic import TypeAdapter

from compresslab.errors import BadInput
from compresslab.user_code import CodeReference, call, canonical_name, resolve, source_digest


@pytest.fixture(autouse=True)
def _import_state(monkeypatch):
    """Imports of these tests end with them: their modules share names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_file_by_path_and_a_module_in_the_working_directory(tmp_path, monkeypatch):
    write(tmp_path, alpha="def f(x=1):\n    return x + 1\n")
    assert call(f"{tmp_path}/alpha.py:f", {"x": 4}) == 5
    monkeypatch.chdir(tmp_path)
    assert resolve("alpha:f")() == 2


def test_an_installed_module():
    import statistics

    assert resolve("statistics:median") is statistics.median


def test_a_module_beside_the_pipeline_becomes_its_path(tmp_path):
    write(tmp_path, beta="", pack__in____init__="", pack__in__inner="")
    validate = TypeAdapter(CodeReference).validate_python
    context = {"base": str(tmp_path)}
    assert validate("beta:f", context=context) == f"{tmp_path}/beta.py:f"
    assert validate("pack.inner:f", context=context) == f"{tmp_path}/pack/inner.py:f"
    assert validate("beta.py:f", context=context) == f"{tmp_path}/beta.py:f"
    assert validate("statistics:median", context=context) == "statistics:median"
    assert validate(f"{tmp_path}/beta.py:f", context={"base": "/elsewhere"}) == f"{tmp_path}/beta.py:f"
    assert validate("beta:f") == "beta:f"


@pytest.mark.parametrize("text", ["beta", ":f", "beta:", "beta:f()", "os.system"])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ValueError, match=r"`module:function` or `path/to/file.py:function` must be given, but got"):
        TypeAdapter(CodeReference).validate_python(text)


def test_packages_import_their_siblings(tmp_path):
    """Catches loading a file on its own, without the package and the folder it belongs to."""
    write(
        tmp_path,
        delta_pack__in____init__="",
        delta_pack__in__a="from . import b\nfrom delta_helper import K\ndef f():\n    return b.N * K\n",
        delta_pack__in__b="N = 3\n",
        delta_helper="K = 7\n",
    )
    assert call(f"{tmp_path}/delta_pack/a.py:f", {}) == 21
    assert canonical_name(f"{tmp_path}/delta_pack/a.py:f") == "delta_pack.a:f"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_library\n", "importing it failed with ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:\n", "importing it failed with SyntaxError"),
        ("def build_model():\n    pass\n", r"has no function `build_modle`; did you mean `build_model`\?"),
        ("build_modle = 3\n", "`build_modle` in .* is int, not a function"),
    ],
)
def test_what_is_wrong_with_a_module_is_told(tmp_path, source, message):
    write(tmp_path, gamma=source)
    with pytest.raises(BadInput, match=message):
        resolve(f"{tmp_path}/gamma.py:build_modle")


def test_missing_files_and_modules_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"there is no file .*nowhere\.py"):
        resolve("nowhere.py:f")
    with pytest.raises(BadInput, match=r"no module `no\.where` beside the pipeline.*name the file, as in"):
        resolve("no.where:f")


def test_a_name_that_is_taken_is_told(tmp_path):
    """Catches quietly running another module of the same name."""
    write(tmp_path, statistics="def f():\n    return 1\n")
    import statistics  # noqa: F401

    with pytest.raises(BadInput, match="another module named `statistics` is loaded already"):
        resolve(f"{tmp_path}/statistics.py:f")


def test_wrong_arguments_and_failures_are_told(tmp_path):
    write(tmp_path, epsilon="def f(width):\n    return 1 / width\n")
    with pytest.raises(BadInput, match="cannot be called with `wide`: missing a required argument: 'width'"):
        call(f"{tmp_path}/epsilon.py:f", {"wide": 1})
    with pytest.raises(BadInput, match=r"failed with ZeroDivisionError: division by zero \(.*epsilon\.py:2\)"):
        call(f"{tmp_path}/epsilon.py:f", {"width": 0})


def test_the_digest_follows_imports_from_the_same_folder_and_runs_nothing(tmp_path):
    write(
        tmp_path,
        zeta="import json\nimport zeta_helper\nraise RuntimeError('must not run')\n",
        zeta_helper="from zeta_pack import inner\n",
        zeta_pack__in____init__="",
        zeta_pack__in__inner="from .deep import X\n",
        zeta_pack__in__deep="X = 1\n",
        zeta_other="Y = 1\n",
    )
    reference = f"{tmp_path}/zeta.py:f"
    first = source_digest(reference)
    write(tmp_path, zeta_other="Y = 2\n")
    assert source_digest(reference) == first, "a file that is not imported does not count"
    write(tmp_path, zeta_pack__in__deep="X = 2\n")
    assert source_digest(reference) != first


def test_the_digest_does_not_depend_on_the_place(tmp_path):
    write(tmp_path / "a", eta="import eta_helper\n", eta_helper="")
    write(tmp_path / "b", eta="import eta_helper\n", eta_helper="")
    assert source_digest(f"{tmp_path}/a/eta.py:f") == source_digest(f"{tmp_path}/b/eta.py:f")
    assert canonical_name(f"{tmp_path}/a/eta.py:f") == "eta:f"
