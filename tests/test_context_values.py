"""Values of the notebook: what is told of each kind, and what is never done to one."""

import collections
import dataclasses
import itertools
import linecache
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from ipychat import secrets
from ipychat.context import values
from ipychat.context.values import summarise

SECRET = "sk-a-key-of-the-notebook's-user-0123456789"


@pytest.fixture(autouse=True)
def _known():
    secrets.register(SECRET)


# -- summarise: the libraries of data


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


@pytest.fixture
def np():
    return pytest.importorskip("numpy")


def test_a_table_is_its_shape_its_columns_and_its_first_rows(pd):
    df = pd.DataFrame(
        {"n": range(1000), "text": ["a", None] * 500, "when": pd.date_range("2020", periods=1000)}
    )
    first, *rest = summarise("df", df).splitlines()
    assert first == "df: DataFrame, 1,000 rows and 3 columns"
    assert "- 'n': int64, 0 missing, 0 to 999" in rest
    assert any(line.startswith("- 'text': ") and "500 missing, e.g. 'a'" in line for line in rest)
    assert "0 | 0 | 'a' | 2020-01-01 00:00:00" in rest
    assert rest[-1] == "… 990 more rows"


def test_a_wide_table_says_how_many_columns_are_left_out(pd):
    text = summarise("df", pd.DataFrame([[0] * 5000] * 3), 1000)
    assert "df: DataFrame, 3 rows and 5,000 columns" in text
    assert " more columns" in text
    assert "first rows, 8 of 5,000 columns:" in text
    assert text.splitlines()[-1].startswith("2 | 0 | 0")
    assert len(text) <= 1000


def test_a_table_of_one_row_of_none_and_of_equal_names_is_fine(pd):
    assert summarise("df", pd.DataFrame({"a": [1]})).startswith(
        "df: DataFrame, 1 row and 1 column\n"
    )
    assert summarise("df", pd.DataFrame()).startswith("df: DataFrame, 0 rows and 0 columns")
    twice = summarise("df", pd.DataFrame([[1, "x"]], columns=["a", "a"]))
    assert twice.count("- 'a': ") == 2
    assert "0 | 1 | 'x'" in twice


def test_a_long_table_is_looked_at_in_its_first_rows_and_that_is_said(pd, monkeypatch):
    monkeypatch.setattr(values, "MAX_NUMBERS", 1000)
    text = summarise("df", pd.DataFrame({"a": [1.0] * 5000}))
    assert "columns, looking at the first 1,000 rows:" in text


def test_a_subclass_of_a_table_is_a_table_and_a_namesake_is_not(pd):
    class Frame(pd.DataFrame):
        pass

    class DataFrame:
        shape = "none of your business"

    assert summarise("f", Frame({"a": [1]})).startswith("f: Frame, 1 row and 1 column")
    assert summarise("f", DataFrame()).startswith("f: DataFrame")


def test_cells_that_hold_much_are_cut(pd):
    text = summarise("df", pd.DataFrame({"a": ["x" * 10**6], "b": [list(range(10**6))]}))
    assert len(text) < 1000
    assert "999,970 more" in text
    assert "[0, 1, 2, " in text


def test_a_series_is_a_table_of_one_column(pd):
    lines = summarise("s", pd.Series([3.0, None, 1.0] * 100, name="price")).splitlines()
    assert lines[0] == "s: Series, 300 rows and 1 column"
    assert lines[2] == "- 'price': float64, 100 missing, 1.0 to 3.0"
    assert lines[5] == "0 | 3.0"
    assert lines[-1] == "… 290 more rows"
    assert summarise("s", pd.Series([], dtype="float64")).startswith("s: Series, 0 rows")


def test_an_index_is_its_first_labels(pd):
    text = summarise("i", pd.Index(["a", "b"] * 100))
    assert text.startswith("i: Index, 200 labels of ")
    assert "- 'a'\n- 'b'\n" in text
    assert text.endswith("… 190 more labels")
    assert summarise("i", pd.RangeIndex(2)) == "i: RangeIndex, 2 labels of int64\n- 0\n- 1"


def test_an_array_is_its_shape_type_range_and_first_values(np):
    assert summarise("a", np.arange(12.0).reshape(3, 4)).splitlines() == [
        "a: ndarray, shape (3, 4), dtype float64",
        "0 missing, 0.0 to 11.0",
        "first values: 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0",
        "… 2 more values",
    ]


def test_missing_numbers_have_no_part_in_a_range(np):
    assert "\n1 missing, 1.0 to 2.0\n" in summarise("a", np.array([1, float("nan"), 2]))
    assert "\n2 missing\n" in summarise("a", np.array([float("nan")] * 2))
    times = np.array(["2020-01-01", "NaT", "2021-01-01"], dtype="M8[D]")
    assert "\n1 missing, 2020-01-01 to 2021-01-01\n" in summarise("a", times)


@pytest.mark.parametrize("dtype", ["O", "U5", "complex", "i4,f8", "bool"])
def test_arrays_of_other_types_are_told_too(np, dtype):
    assert "first values: " in summarise("a", np.zeros(3, dtype=dtype))


def test_an_array_of_a_trillion_numbers_is_looked_at_in_its_beginning(np):
    text = summarise("a", np.broadcast_to(np.float64(1), (10**6, 10**6)))
    assert "(of the first 1,000,000)" in text
    assert text.endswith("… 999,999,999,990 more values")


def test_numbers_of_the_libraries_are_numbers(np, pd):
    assert summarise("n", np.float64(1.5)) == "n: float64 = 1.5"
    assert summarise("t", pd.Timestamp("2020-01-02")) == "t: Timestamp = 2020-01-02 00:00:00"
    assert "[1.5, 2]" in summarise("d", {"a": [np.float64(1.5), np.int64(2)]})


def test_data_in_a_value_is_told_by_its_extent(np, pd):
    text = summarise(
        "d", {"df": pd.DataFrame({"a": [1] * 1000}), "a": np.zeros((10, 20)), "np": np}
    )
    assert "- 'df': DataFrame = <DataFrame, shape (1000, 1)>" in text
    assert "- 'a': ndarray = <ndarray, shape (10, 20)>" in text
    assert "- 'np': module = <module numpy>" in text


@pytest.mark.heavy
def test_no_library_is_imported_to_look_at_a_value():
    code = (
        "import sys; from ipychat.context import values;"
        "values.summarise('x', {'a': [1, object()]});"
        "print({'pandas', 'numpy', 'IPython', 'PIL', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout == "set()\n"


# -- summarise: Python's own values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "x: int = 1"),
        (True, "x: bool = True"),
        (None, "x: NoneType = None"),
        (1.5, "x: float = 1.5"),
        (range(10**30), "x: range = range(0, 1000000000000000000000000000000)"),
        ("a\nb", r"x: str = 'a\nb'"),
        (Path("/no/such/place"), "x: PosixPath = '/no/such/place'\nnot there, or not to be seen"),
        ([], "x: list, 0 items"),
        ({}, "x: dict, 0 keys"),
        ([1, "a"], "x: list, 2 items\n- 1\n- 'a'"),
        ({"b", "a"}, "x: set, 2 items\n- 'a'\n- 'b'"),
        ({"a": [1]}, "x: dict, 1 key\n- 'a': list = [1]"),
        ({}.keys(), "x: dict_keys, 0 items"),
    ],
)
def test_small_values_are_told_whole(value, text):
    assert summarise("x", value) == text


def test_a_long_text_is_its_length_and_its_beginning():
    text = summarise("s", "line\n" * 10**6, 200)
    assert text.startswith("s: str, 5,000,000 characters\nline\nline\n")
    assert text.endswith(" more characters")
    assert len(text) <= 200


def test_bytes_are_their_length_and_their_beginning():
    text = summarise("b", b"\x00a" * 10**6)
    assert text.startswith("b: bytes, 2,000,000 bytes\nb'\\x00a\\x00a")
    assert text.endswith(" …")
    assert summarise("b", b"ab" * 60).endswith("ab'… 20 more")
    assert summarise("b", bytearray(b"ab")) == "b: bytearray = b'ab'"


def test_a_list_of_ten_million_is_its_length_and_its_first_items():
    text = summarise("x", [0] * 10**7)
    assert text.startswith("x: list, 10,000,000 items\n- 0\n")
    assert text.endswith("… 9,999,900 more items")


def test_a_mapping_of_a_million_keys_is_its_first_keys():
    text = summarise("d", dict.fromkeys(range(10**6), "x" * 10**5), 600)
    assert text.startswith("d: dict, 1,000,000 keys\n- 0: str = ")
    assert text.endswith(" more keys")
    assert len(text) <= 600


def test_values_in_values_are_short_and_their_depth_is_bounded():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert summarise("x", deep) == "x: list, 1 item\n- [[[… 1 more]]]"
    endless = []
    endless.append(endless)
    assert len(summarise("x", endless)) < 100
    while deep:  # taken apart, for its end would be as deep a recursion
        deep = deep.pop()
    assert "- 'a': list = [0, 1, 2, 3, 4, 5, 6, 7, … 992 more]" in summarise(
        "d", {"a": list(range(1000))}
    )


class Counted(collections.abc.Sequence):
    """Says that it is long; counts what is taken."""

    taken = 0

    def __len__(self):
        return 10**12

    def __getitem__(self, at):
        self.taken += 1
        return at

    def __iter__(self):
        for at in itertools.count():
            self.taken += 1
            yield at


def test_of_a_collection_of_a_trillion_items_a_hundred_are_taken():
    counted = Counted()
    text = summarise("x", counted, 10**6)
    assert text.startswith("x: Counted, 1,000,000,000,000 items")
    assert counted.taken <= values.MAX_ITEMS


def test_of_a_collection_in_a_collection_a_handful_is_taken():
    counted = Counted()
    summarise("x", {"a": counted})
    assert counted.taken <= 10


def test_an_object_with_a_length_that_is_no_collection_is_not_run_through():
    class Rows:
        def __len__(self):
            raise AssertionError

        __iter__ = __getitem__ = __len__

    assert summarise("rows", Rows()) == "rows: Rows (tests.test_context_values) = <Rows object>"


def test_an_iterator_is_left_as_it_is():
    steps = itertools.count()
    squares = (n * n for n in steps)
    assert summarise("squares", squares) == "squares: generator, an iterator, not consumed"
    assert "generator" in summarise("x", [squares, {"a": squares}])
    assert next(squares) == 0
    assert "not consumed" in summarise("x", itertools.repeat([0] * 10**7))


# -- summarise: code, modules, errors


def test_a_function_is_its_source():
    text = summarise("f", textwrap.dedent)
    assert text.startswith("f: function dedent\ndef dedent(")
    assert " more characters" in summarise("f", textwrap.dedent, 300)


def test_a_function_of_a_cell_is_its_source():
    name, source = "/tmp/ipykernel_1/123.py", "def f(x):\n    return x + 1\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), space)
    assert summarise("f", space["f"]) == f"f: function f\n{source.strip()}"


def test_a_class_of_a_cell_is_its_source():
    name = "/tmp/ipykernel_1/456.py"
    source = "import functools\n\n@functools.total_ordering\nclass C:\n    a = 1\n    def f(self):\n        ...\n    __lt__ = f\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space = {"__name__": "no_such_module"}
    exec(compile(source, name, "exec"), space)
    assert summarise("C", space["C"]) == "C: class C\n" + source.split("\n\n")[1].strip()


def test_code_without_a_source_is_its_signature_and_docstring():
    assert summarise("f", len).startswith("f: builtin_function_or_method len\nlen(obj)\nReturn")
    space = {}
    exec("class C:\n    'Doc of C.'\n    def m(self, x, many=[0] * 10**6, one=1): pass", space)
    assert summarise("C", space["C"]).startswith("C: class C\nC()\nDoc of C.")
    text = summarise("m", space["C"]().m)
    assert text == "m: method C.m\nC.m(x, many, one)\nits source is not at hand"


def test_a_module_is_its_version_and_its_public_names():
    module = types.ModuleType("pets")
    module.cat = module.dog = module._flea = 1
    assert summarise("p", module) == "p: module pets\n- cat\n- dog"
    module.__version__, module.__all__ = "1.2", ["dog"]
    assert summarise("p", module) == "p: module pets, version '1.2'\n- dog"
    vars(module).update({f"name{n}": n for n in range(10_000)}, __all__=None)
    assert " more public names" in summarise("p", module)


def test_an_error_is_its_message_where_it_was_raised_and_its_cause():
    try:
        try:
            {}["a"]
        except KeyError as error:
            raise ValueError("no such pet") from error
    except ValueError as error:
        lines = summarise("e", error).splitlines()
    assert lines[0] == "e: exception ValueError: no such pet"
    assert '    raise ValueError("no such pet") from error' in lines
    assert "KeyError: 'a'" in lines
    assert len(summarise("e", ValueError([0] * 10**6))) < 100


def test_a_file_is_told_by_its_size_and_a_folder_as_such(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    assert summarise("p", tmp_path / "a").endswith("\na file of 4 bytes")
    assert summarise("p", tmp_path).endswith("\na folder")


# -- summarise: objects of any kind


@dataclasses.dataclass
class Pet:
    name: str
    legs: object = 4


def test_an_object_is_its_own_repr_and_its_public_attributes():
    pet = Pet("Rex")
    pet._flea = 1
    assert summarise("pet", pet).splitlines() == [
        "pet: Pet (tests.test_context_values)",
        "Pet(name='Rex', legs=4)",
        "- name: str = 'Rex'",
        "- legs: int = 4",
    ]


def test_slots_are_attributes_and_properties_are_not_called():
    class Slotted:
        __slots__ = ("a", "unset")

        def __init__(self):
            self.a = 1

        @property
        def costly(self):
            raise AssertionError

    text = summarise("s", Slotted())
    assert "- a: int = 1" in text
    assert "costly" not in text
    assert "unset" not in text


def holds_much():
    many = [0] * 10**6
    nested = [[[n] * 10 for n in range(10)] for _ in range(10)]
    return [
        many,
        dict.fromkeys(range(10**5)),
        "x" * 10**6,
        nested,
        Pet("inner", many),
        collections.deque(many),
        Counted(),
        {}.fromkeys(range(1000)).keys(),
    ]


@pytest.mark.parametrize("held", holds_much(), ids=lambda held: type(held).__name__)
def test_the_repr_of_an_object_that_holds_much_is_not_called(held):
    class Loud:
        def __init__(self):
            self._held = held

        def __repr__(self):
            raise AssertionError

    assert summarise("x", Loud()) == "x: Loud (tests.test_context_values) = <Loud object>"
    assert "<Loud object>" in summarise("x", [Loud()])


def test_a_repr_is_called_once_and_cut():
    class Loud:
        calls = 0

        def __repr__(self):
            Loud.calls += 1
            return "r" * 10**7

    text = summarise("x", Loud())
    assert Loud.calls == 1
    assert len(text) <= 2000
    assert "more characters" in text
    assert len(summarise("x", [Loud()])) < 300


def test_a_repr_that_raises_is_told():
    class Hostile:
        def __repr__(self):
            raise ZeroDivisionError

    told = "<Hostile object whose repr raises ZeroDivisionError>"
    assert told in summarise("x", Hostile())
    assert told in summarise("x", [Hostile()])
    assert told in summarise("x", {"a": Hostile()})


def test_an_address_is_no_part_of_a_summary():
    class Addressed:
        def __repr__(self):
            return object.__repr__(self)

    assert "0x" not in summarise("x", [Addressed(), Addressed().__repr__, object()])


def test_an_object_that_raises_whenever_it_is_looked_at_is_named_by_its_type():
    class Hostile(dict):
        def __getattribute__(self, name):
            raise RuntimeError("hands off")

        __len__ = __iter__ = __getattribute__

    assert summarise("x", Hostile()).startswith("x: Hostile")
    assert summarise("x", [Hostile()])


def test_a_mapping_that_fails_is_told_as_an_object_and_why():
    class Broken(collections.UserDict):
        def __iter__(self):
            raise OSError("the disk is gone")

    first, note, *_ = summarise("x", Broken(a=1)).splitlines()
    assert first.startswith("x: Broken")
    assert note == "(looking at it raised OSError: the disk is gone)"


def test_an_object_that_answers_to_every_name_is_not_taken_at_its_word():
    class Remote:
        def __getattr__(self, name):
            raise AssertionError(name)

    assert summarise("x", Remote()).startswith("x: Remote")
    assert summarise("x", MagicMock()).startswith("x: MagicMock")


# -- summarise: its own words, the budget, secrets


def test_what_holds_little_many_times_over_is_much():
    laughs = [1]
    for _ in range(30):
        laughs = [laughs] * 200

    class Loud:
        def __init__(self):
            self._held = laughs

        def __repr__(self):
            return repr(self._held)

    assert summarise("x", Loud()).endswith("= <Loud object>")
    assert len(summarise("x", laughs)) <= 2000


class Own:
    def __init__(self, said):
        self.said = said

    def _repr_llm_(self):
        return self.said() if callable(self.said) else self.said


def test_what_an_object_says_for_models_wins():
    assert summarise("x", Own("I am x")) == "x: Own\nI am x"
    text = summarise("x", Own("long " * 10**6), 300)
    assert text.startswith("x: Own\nlong long ")
    assert text.endswith(" more characters")
    assert len(text) <= 300


def test_what_an_object_says_for_models_must_be_a_text():
    assert summarise("x", Own(None)).startswith("x: Own (tests.test_context_values)")
    text = summarise("x", Own(lambda: 1 / 0))
    assert text.splitlines()[1] == "(looking at it raised ZeroDivisionError: division by zero)"
    assert summarise("Own", Own).startswith("Own: class Own\n")


VALUES = [
    "x" * 10**4,
    b"x" * 10**4,
    [{"a": "x" * 1000}] * 1000,
    {f"key{n}" * 20: [n] * 1000 for n in range(1000)},
    textwrap.dedent,
    textwrap,
    Pet("x" * 1000, ["x" * 1000] * 100),
    Own("x" * 10**4),
    ValueError("x" * 10**4),
    Path("x" * 10**4),
    Counted(),
]


@pytest.mark.parametrize("budget", [40, 100, 300, 2000, 10_000])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_summary_keeps_to_its_budget(value, budget):
    text = summarise("x", value, budget)
    assert len(text) <= budget
    assert text.startswith("x: ")


@pytest.mark.parametrize("budget", [100, 200, 300, 1000])
def test_a_table_keeps_to_its_budget(pd, budget):
    df = pd.DataFrame({f"column {n}": ["x" * n] * 100 for n in range(100)})
    for value in (df, df["column 50"], df.to_numpy(), df.columns):
        assert len(summarise("x", value, budget)) <= budget


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        [SECRET],
        {"a": {SECRET: SECRET}},
        SECRET.encode(),
        [SECRET.encode()],
        Own(SECRET),
        Pet(SECRET),
        ValueError(SECRET),
        Path(SECRET),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_in_a_value_is_masked(value):
    text = secrets.mask(summarise("x", value))  # as the firewall does
    assert secrets.MASK in text
    assert "0123456789" not in text


@pytest.mark.parametrize("before", [0, 60, 70, 79, 100, 1900, 1930])
def test_no_cut_leaves_half_of_a_secret(before):
    long = "x" * before + SECRET + "y" * 10**4
    for value in (long, [long], {"a": long}, long.encode(), [long.encode()], Own(long), Pet(long)):
        assert SECRET[:6] not in secrets.mask(summarise("x", value))
