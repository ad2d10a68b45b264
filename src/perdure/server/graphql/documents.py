"""Queries as text: parsed, checked, and kept for the next time.

The library's own checks refuse what does not fit the schema. Ours refuse what would cost too much before
anything is read: nesting, and the number of fields that the query names, its fragments written out. What a
list can make of a small query is bounded when it runs (`session`).
"""

from __future__ import annotations

from collections import OrderedDict

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    validate,
)
from graphql.error import GraphQLSyntaxError

MAX_DEPTH = 15
"""Fields within fields. The deepest queries of known clients have nine levels."""
MAX_FIELDS = 1_000
"""Fields that a query names. The widest of known clients name some 250."""
MAX_ROOT_FIELDS = 20
"""Questions in one query."""
MAX_TEXT_BYTES = 64 * 1024
MAX_TOKENS = 8_000
KEPT = 256
"""Documents that are kept, the ones used last."""

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
TOO_COMPLEX = "GRAPHQL_TOO_COMPLEX"


class Refused(Exception):
    """A query that is not run at all."""

    def __init__(self, errors: list[GraphQLError], code: str) -> None:
        super().__init__(errors[0].message)
        self.errors = errors
        self.code = code


class Documents:
    """Checked documents by their text. Used by one thread at a time."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._kept: OrderedDict[str, DocumentNode] = OrderedDict()

    def read(self, text: str) -> DocumentNode:
        """The document, if it may be run. Raises `Refused`."""
        known = self._kept.get(text)
        if known is not None:
            self._kept.move_to_end(text)
            return known
        document = self._check(text)
        self._kept[text] = document
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return document

    def _check(self, text: str) -> DocumentNode:
        if len(text.encode()) > MAX_TEXT_BYTES:
            raise _too_complex(f"The query is longer than {MAX_TEXT_BYTES} bytes.")
        try:
            document = parse(text, max_tokens=MAX_TOKENS)
        except GraphQLSyntaxError as error:
            raise Refused([error], PARSE_FAILED) from None
        except RecursionError:
            raise _too_complex("The query is nested too deeply.") from None
        # Before the library's checks: some of them take time by the square of what is named.
        check_size(document)
        errors = validate(self._schema, document, max_errors=20)
        if errors:
            raise Refused(errors, VALIDATION_FAILED)
        return document


def check_size(document: DocumentNode) -> None:
    """Raises `Refused` for a document that is too deep or too wide."""
    sizes = _Sizes(document)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            roots, _ = sizes.of(definition.selection_set, roots_only=True)
            if roots > MAX_ROOT_FIELDS:
                raise _too_complex(
                    f"The query asks {roots} questions at once; {MAX_ROOT_FIELDS} are allowed."
                )
            sizes.check(definition.selection_set)
        elif isinstance(definition, FragmentDefinitionNode):
            sizes.check(definition.selection_set)


class _Sizes:
    """Number of fields and depth of selections; each fragment is looked at once, however often it is used."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            definition.name.value: definition.selection_set
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._known: dict[str, tuple[int, int]] = {}

    def check(self, selections: SelectionSetNode) -> None:
        fields, depth = self.of(selections)
        if depth > MAX_DEPTH:
            raise _too_complex(f"The query is nested {depth} fields deep; {MAX_DEPTH} are allowed.")
        if fields > MAX_FIELDS:
            raise _too_complex(f"The query names {fields} fields; {MAX_FIELDS} are allowed.")

    def of(self, selections: SelectionSetNode, roots_only: bool = False) -> tuple[int, int]:
        fields, depth = 0, 0
        for node in selections.selections:
            if isinstance(node, FieldNode):
                below = (0, 0)
                if node.selection_set is not None and not roots_only:
                    below = self.of(node.selection_set)
                more, deep = below[0] + 1, below[1] + 1
            elif isinstance(node, InlineFragmentNode):
                more, deep = self.of(node.selection_set, roots_only)
            else:
                assert isinstance(node, FragmentSpreadNode)
                more, deep = self._fragment(node.name.value, roots_only)
            fields, depth = fields + more, max(depth, deep)
        return fields, depth

    def _fragment(self, name: str, roots_only: bool) -> tuple[int, int]:
        selections = self._fragments.get(name)
        if selections is None:
            return 0, 0
        if roots_only:
            # A fragment that contains itself is found out below, and by the library.
            return len(selections.selections), 0
        if name not in self._known:
            # Until it is known, a fragment that contains itself counts for nothing here.
            self._known[name] = (0, 0)
            self._known[name] = self.of(selections)
        return self._known[name]


def _too_complex(message: str) -> Refused:
    return Refused([GraphQLError(message)], TOO_COMPLEX)
