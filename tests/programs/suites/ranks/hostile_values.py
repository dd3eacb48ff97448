"""Values without a text, a pickle or an end, as properties of tests."""

import pytest

pytestmark = pytest.mark.ranks(2)


class NoText:
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class Leaves(NoText):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class NoPickle(str):  # noqa: SLOT000
    def __reduce__(self):
        raise RuntimeError("not to be pickled")


itself = []
itself.append(itself)
tree = []
for _ in range(60):
    tree = [tree, tree]


def test_properties(record_property, record_testsuite_property, record_xml_attribute, request):
    for value in (itself, [1, itself], {"a": NoText()}, Leaves(), NoPickle("x"), tree, {NoText()}, {NoText(): 1}):
        record_property("value", value)
        record_testsuite_property("value", value)
        record_xml_attribute("value", value)
        request.node.user_properties.append(("direct", value))
    request.node.add_report_section("call", "custom", itself)
    request.node.user_properties += ["no pair", 3]
