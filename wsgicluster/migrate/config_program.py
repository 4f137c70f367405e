"""Whether a configuration file only says values, or is a program that a list of its values cannot replace. Pure."""

import ast


def is_program(source: str | bytes) -> bool:
    """Whether there is more in a file than assignments of literals; it has been executed, so that it can be parsed."""
    return not all(map(_is_plain, ast.parse(source).body))


def _is_plain(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)  # a text that describes the file
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return False
    try:
        ast.literal_eval(statement.value)
    except ValueError:
        return False
    return True
