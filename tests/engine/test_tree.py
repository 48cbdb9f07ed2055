"""keras.tree: the results of real Keras for these structures (3.15.1 on JAX), and its errors."""

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest
from mistakes import mistakes

from nbkeras import tree

Point = namedtuple("Point", "x y")

CASES = [
    (lambda: tree.flatten({"b": 1, "a": [2, (3, None)]}), [2, 3, None, 1]),
    (lambda: tree.flatten(Point(1, [2])), [1, 2]),
    (
        lambda: tree.flatten_with_path({"b": 1, "a": [2, (3, None)], "c": Point(5, 6)}),
        [(("a", 0), 2), (("a", 1, 0), 3), (("a", 1, 1), None), (("b",), 1), (("c", 0), 5), (("c", 1), 6)],
    ),
    (lambda: tree.map_structure(lambda a, b: (a, b), [1, None], [2, None], none_is_leaf=False), [(1, 2), None]),
    (lambda: tree.map_structure(lambda a, b: (a, b), [1, None], [2, None]), [(1, 2), (None, None)]),
    (lambda: tree.map_structure(lambda a: a + 1, Point(1, {"b": 2, "a": 3})), Point(2, {"b": 3, "a": 4})),
    (lambda: tree.traverse(lambda x: x * 2 if isinstance(x, int) else None, [1, {"a": 2}, "s"]), [2, {"a": 4}, "s"]),
    (lambda: tree.traverse(lambda x: tuple(x) if isinstance(x, list) else None, [1, [2, 1]]), (1, [2, 1])),
    (
        lambda: tree.traverse(lambda x: tuple(x) if isinstance(x, list) else None, [1, [2, 1]], top_down=False),
        (1, (2, 1)),
    ),
    (lambda: tree.traverse(lambda x: tree.MAP_TO_NONE() if x == 1 else None, [1, [2, 1]]), [None, [2, None]]),
    (lambda: tree.lists_to_tuples([1, [2, {"a": [3]}], Point([1], 2)]), (1, (2, {"a": (3,)}), Point((1,), 2))),
    (lambda: tree.map_shape_structure(len, [(1, None), {"a": (3, 4, 5)}]), [2, {"a": 3}]),
    (lambda: tree.map_structure_up_to([1, 2], lambda a: a, [[3], (4, 5)]), [[3], (4, 5)]),
    (lambda: tree.pack_sequence_as([1, {"a": 2}], [5, 6]), [5, {"a": 6}]),
    (lambda: tree.assert_same_structure({"a": 1}, OrderedDict(a=1)), None),
    (lambda: tree.flatten(OrderedDict(b=1, a=[2])), [1, 2]),
    (lambda: tree.map_structure(lambda a: -a, OrderedDict(b=1, a=2)), OrderedDict(b=-1, a=-2)),
    (lambda: tree.lists_to_tuples(defaultdict(list, b=1, a=[2])), defaultdict(list, b=1, a=(2,))),
    (lambda: tree.map_structure(lambda a: -a, defaultdict(list, b=1))["c"], []),
    (lambda: tree.map_structure(lambda a, b: a - b, {"a": 1, "b": 2}, OrderedDict(b=5, a=3)), {"a": -2, "b": -3}),
    (lambda: tree.map_structure_up_to(OrderedDict(b=1, a=2), len, {"a": [1], "b": ()}), OrderedDict(b=0, a=1)),
    (lambda: tree.flatten({"a": deque([1, (2, 3)])}), [1, 2, 3]),
    (lambda: tree.map_structure(lambda a, b: a + b, deque([1, 2]), deque([3, 4])), deque([4, 6])),
    (lambda: tree.pack_sequence_as(deque([0, [0]]), [1, 2]), deque([1, [2]])),
    (lambda: tree.is_nested(deque()), True),
    (lambda: tree.assert_same_paths([1, 2], (3, 4)), None),
    (lambda: [tree.is_nested(x) for x in (Point(1, 2), {}, [], 1, None, "s")], [True, True, True, False, False, False]),
]
ERRORS = [
    (lambda: tree.map_structure(lambda a, b: (a, b), [1, None], (2, None)), "the structures differ"),
    (
        lambda: tree.map_structure(lambda a, b: (a, b), [1, None], [2, 3], none_is_leaf=False),
        r"the structures differ: expected None, received \(None, 3\)",
    ),
    (lambda: tree.pack_sequence_as([1, {"a": 2}], [5]), "has 2 leaves, received 1"),
    (lambda: tree.pack_sequence_as(1, [5, 6]), "has 1 leaves, received 2"),
    (lambda: tree.assert_same_structure([1], [2, 3]), r"the structures differ: \[1\] and \[2, 3\]"),
    (lambda: tree.assert_same_structure([1], deque([2])), r"the structures differ: \[1\] and deque"),
    (lambda: tree.assert_same_structure({"b": [{"a": 1}]}, {"b": [{"b": 1}]}), r"the structures differ at \('b', 0\)"),
    (lambda: tree.assert_same_structure([1, [2]], [1, 2]), r"the structures differ at \(1,\): \[2\] and 2"),
    (lambda: tree.assert_same_paths([1, 2], (3, [4])), "only one structure has leaves at"),
    (
        lambda: tree.map_structure_up_to([1, 2], lambda a: a, [3]),
        r"the structures differ at \(\): expected \[1, 2\], received \[3\]",
    ),
    (lambda: tree.map_structure(lambda x: x), "at least one structure"),
    (lambda: tree.map_structure_up_to([1], lambda x: x), "at least one structure"),
]


@pytest.mark.parametrize("call, expected", CASES)
def test_structures_are_keras_s(call, expected):
    received = call()
    assert received == expected and type(received) is type(expected)


test_mistakes_are_explained = mistakes(ERRORS, (ValueError, TypeError))
