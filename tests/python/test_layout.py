"""The dependencies of the package's files on each other."""

import ast
import graphlib
import pathlib

import procession

FOLDER = pathlib.Path(procession.__file__).parent
PACKAGE = 'procession'
# Modules whose types are in a stub: the engine has no other place for them.
STUBBED = {'_engine'}


def test_no_files_import_each_other_in_a_circle():
    order = graphlib.TopologicalSorter({name: _imported(name, tree) for name, tree in _files().items()})
    # `prepare` raises `CycleError`, which names the circle.
    order.prepare()


def test_the_contexts_are_imported_by_none_but_the_package():
    importers = {name for name, tree in _files().items() if f'{PACKAGE}.context' in _imported(name, tree)}
    assert importers == {PACKAGE}


def test_types_are_in_the_sources():
    assert (FOLDER / 'py.typed').exists()
    assert {path.stem for path in FOLDER.rglob('*.pyi')} <= STUBBED


def test_no_file_assigns_a_variable_of_another():
    assert [found for name, tree in _files().items() for found in _assignments_elsewhere(name, tree)] == []


def test_the_look_at_the_files_finds_imports_wherever_they_are():
    text = 'from . import pool\ndef f():\n from .queues import Queue\n import procession.heap\n __import__("procession.spawn")'
    found = _imported(f'{PACKAGE}.x', ast.parse(text))
    assert found == {f'{PACKAGE}.{name}' for name in ('pool', 'queues', 'heap', 'spawn')}


def test_the_look_at_the_files_finds_assignments_elsewhere():
    text = 'from . import process as p\ndef f():\n p._link = 1\n p._standard._children, y = 1, 2\n p.count += 1'
    assert len(_assignments_elsewhere(f'{PACKAGE}.x', ast.parse(text))) == 3


def _files():
    """Returns the source of each module, and of its stub, by the module's name."""
    files = {}
    for path in sorted([*FOLDER.rglob('*.py'), *FOLDER.rglob('*.pyi')]):
        parts = path.relative_to(FOLDER).with_suffix('').parts
        name = '.'.join([PACKAGE, *(part for part in parts if part != '__init__')])
        files.setdefault(name, ast.Module([], [])).body.extend(ast.parse(path.read_text(), str(path)).body)
    assert f'{PACKAGE}.pool' in files
    return files


def _imported(name, tree):
    """Returns the modules of the package that a module imports anywhere, in its functions too."""
    return {module for node in ast.walk(tree) for _, module, _ in _imports(node)} - {name}


def _imports(node):
    """Returns what one import statement, or call of `__import__`, takes from the package: the name
    that it gets, the module, and whether the name stands for the module itself.
    """
    match node:
        case ast.Import():
            return [(alias.asname, alias.name, True) for alias in node.names if alias.name.startswith(f'{PACKAGE}.')]
        case ast.ImportFrom(module=module, level=level) if level or (module or '').partition('.')[0] == PACKAGE:
            origin = '.'.join([PACKAGE] * bool(level) + [module] * bool(module))
            return [(alias.asname or alias.name, *_taken(origin, alias.name)) for alias in node.names]
        case ast.Call(func=ast.Name('__import__'), args=[ast.Constant(str(module)), *_]) if module.startswith(f'{PACKAGE}.'):
            return [(None, module, True)]
        case _:
            return []


def _taken(origin, name):
    """Returns the module that `from origin import name` imports, and whether that is `name`."""
    path = FOLDER.joinpath(*origin.split('.')[1:], name)
    is_module = path.is_dir() or path.with_suffix('.py').exists() or path.with_suffix('.pyi').exists()
    return (f'{origin}.{name}', True) if is_module else (origin, False)


def _assignments_elsewhere(name, tree):
    """Returns where a module assigns to a name of another module of the package."""
    modules = {bound for node in ast.walk(tree) for bound, _, is_whole in _imports(node) if is_whole}
    return [
        f'{name}:{node.lineno}'
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del) and _root(node) in modules
    ]


def _root(node):
    """Returns the name that an expression of attributes begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
