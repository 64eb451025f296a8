#!/usr/bin/env python
"""Break pairing/authority.py in every small way we can think of and ask the second opinion whether it notices.

    scripts/mutate_authority.py [--seconds 300] [--show]

Prints the mutants that nobody noticed; exit 1 if there are any, 2 if time ran out before all were tried.
"""

import argparse
import ast
import copy
import importlib.util
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "pairing" / "authority.py"
ORACLE = ROOT / "tests" / "heart" / "test_authority_oracle.py"
PATIENCE = 20

OPPOSITE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
}
UNWRAPPED = {"sorted", "normalise", "tidy", "of_role"}
SWAPPED = {"ADMIN": "PAIRING", "PAIRING": "ADMIN", "READ": "WRITE", "WRITE": "READ", "OPERATOR": "NODE", "NODE": "OPERATOR"}
ATTRIBUTES = {"scopes": "ceiling", "ceiling": "scopes", "own": "scopes", "_FREE": "_CONTAINED"}


def expressions(node: ast.expr) -> Iterator[ast.expr]:
    """Yield what an expression could be by mistake."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            for other in OPPOSITE.get(type(op), ()):
                yield ast.Compare(left, [other()], [right])
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for skipped in range(len(values)):
                rest = values[:skipped] + values[skipped + 1 :]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
            yield body
            yield orelse
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(value + "x")
            yield ast.Constant("")
        case ast.Tuple(elts=elements, ctx=ast.Load()) | ast.Set(elts=elements):
            for skipped in range(len(elements)):
                rest = elements[:skipped] + elements[skipped + 1 :]
                yield ast.Tuple(rest, ast.Load()) if isinstance(node, ast.Tuple) or not rest else ast.Set(rest)
        case ast.Dict(keys=keys, values=values):
            for skipped in range(len(keys)):
                yield ast.Dict(keys[:skipped] + keys[skipped + 1 :], values[:skipped] + values[skipped + 1 :])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield ast.BinOp(left, ast.Sub(), right)
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in UNWRAPPED:
            yield first
        case ast.Call(func=ast.Name(id=("any" | "all") as name), args=arguments):
            yield ast.Call(ast.Name("all" if name == "any" else "any", ast.Load()), arguments, [])
        case ast.Call(func=ast.Attribute(attr="strip", value=value)):
            yield value
        case ast.Name(id=name, ctx=ast.Load()) if name in SWAPPED:
            yield ast.Name(SWAPPED[name], ast.Load())
        case ast.Attribute(value=value, attr=name, ctx=ast.Load()) if name in ATTRIBUTES:
            yield ast.Attribute(value, ATTRIBUTES[name], ast.Load())
        case ast.GeneratorExp(elt=elt, generators=[ast.comprehension(ifs=[_]) as loop]):
            yield ast.GeneratorExp(elt, [ast.comprehension(loop.target, loop.iter, [], 0)])
        case _:
            return


def statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield what a statement could be by mistake."""
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            for answer in (True, False):
                yield ast.If(ast.Constant(answer), body, orelse)
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(value=value) if value is not None:
            for instead in (ast.Constant(True), ast.Constant(False), ast.Constant(None), ast.Tuple([], ast.Load())):
                yield ast.Return(instead)
            yield ast.Return(ast.parse("Ruling(True, 'contained')", mode="eval").body)
        case ast.AugAssign(target=target, op=ast.BitOr(), value=value):
            yield ast.AugAssign(target, ast.BitAnd(), value)
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.For(target=target, iter=iterated, body=body, orelse=orelse):
            yield ast.For(target, ast.Tuple([], ast.Load()), body, orelse)
            yield ast.For(target, _but_the_first(iterated), body, orelse)
        case _:
            return


def _but_the_first(iterated: ast.expr) -> ast.expr:
    tail = ast.parse("tuple(x)[1:]", mode="eval").body
    assert isinstance(tail, ast.Subscript)
    assert isinstance(tail.value, ast.Call)
    tail.value.args = [iterated]
    return tail


def places(tree: ast.AST, path: tuple[tuple[str, int | None], ...] = ()) -> Iterator[tuple[tuple[str, int | None], ...]]:
    """Yield the way to every expression and statement that runs: no annotation, no docstring, no name of a type."""
    for name, value in ast.iter_fields(tree):
        if name in {"annotation", "returns", "decorator_list", "type_comment", "bases", "keywords"} and not isinstance(
            tree, ast.Call
        ):
            continue
        many = isinstance(value, list)
        for index, child in enumerate(value if many else [value]):
            if not isinstance(child, ast.AST) or _is_prose(tree, name, index, child):
                continue
            step = (*path, (name, index if many else None))
            if isinstance(child, ast.expr | ast.stmt):
                yield step
            yield from places(child, step)


def _is_prose(parent: ast.AST, field: str, index: int, child: ast.AST) -> bool:
    if isinstance(child, ast.AnnAssign) and isinstance(child.annotation, ast.Name) and child.annotation.id == "TypeAlias":
        return True
    docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    return isinstance(child, ast.Import | ast.ImportFrom) or (docstring and field == "body" and index == 0)


def at(tree: ast.AST, path: tuple[tuple[str, int | None], ...]) -> ast.AST:
    """Return the node at the end of a path."""
    for name, index in path:
        value = getattr(tree, name)
        tree = value if index is None else value[index]
    return tree


def put(tree: ast.Module, path: tuple[tuple[str, int | None], ...], node: ast.AST) -> ast.Module:
    """Return a copy of the tree with another node at the end of a path."""
    fresh = copy.deepcopy(tree)
    *way, (name, index) = path
    parent = at(fresh, tuple(way))
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node
    return ast.fix_missing_locations(fresh)


def mutants(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Yield every mutant with the words that describe it."""
    for path in places(tree):
        node = at(tree, path)
        others = expressions(node) if isinstance(node, ast.expr) else statements(node) if isinstance(node, ast.stmt) else ()
        for other in others:
            copied = ast.fix_missing_locations(copy.deepcopy(ast.copy_location(other, node)))
            before, after = (" ".join(ast.unparse(each).split())[:90] for each in (node, copied))
            if before != after:
                yield f"line {getattr(node, 'lineno', 0)}: {before}  ->  {after}", put(tree, path, copied)


def run(tree: ast.Module) -> ModuleType:
    """Make a module of a tree, beside the real one."""
    module = ModuleType("pairing.authority_mutant")
    module.__package__ = "pairing"
    exec(compile(tree, str(SOURCE), "exec"), module.__dict__)
    return module


def noticed(tree: ast.Module, disagreements: Callable[[ModuleType], Iterator[object]]) -> bool:
    """Say whether the second opinion differs from a mutant, or the mutant breaks down, or never ends."""
    signal.alarm(PATIENCE)
    try:
        return next(disagreements(run(tree)), None) is not None
    except Exception:
        return True
    finally:
        signal.alarm(0)


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def main() -> int:
    parser = argparse.ArgumentParser(description="mutation test of pairing/authority.py")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--show", action="store_true", help="print every mutant")
    given = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location("oracle", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    signal.signal(signal.SIGALRM, _too_slow)

    tree = ast.parse(SOURCE.read_text())
    if noticed(tree, oracle.disagreements):
        print("the second opinion differs from the code as it is: nothing to learn from mutants")
        return 1
    began, tried, survivors = time.monotonic(), 0, []
    for words, mutant in mutants(tree):
        if time.monotonic() - began > given.seconds:
            print(f"time is up after {tried} mutants")
            return 2
        tried += 1
        killed = noticed(mutant, oracle.disagreements)
        if given.show:
            print("killed  " if killed else "SURVIVED", words)
        if not killed:
            survivors.append(words)
    print(f"{tried} mutants, {tried - len(survivors)} killed in {time.monotonic() - began:.0f} s")
    for words in survivors:
        print("survived:", words)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
