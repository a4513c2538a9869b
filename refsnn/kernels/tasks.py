"""A kernel's tasks, and how threads hand a running kernel to one another without the GIL.

A kernel that is shared is a compiled function `kernel(tasks, own, *args)` which releases the GIL
and computes one task after the other, each taken from `tasks`, until none is left:

    task = begin(tasks, own)
    while task >= 0:
        ...
        task = take(tasks, own)

`own` is the number of the thread, for memory of its own; 0 is the caller's. There, `begin` writes
the kernel's address and its arguments to `tasks`, and opens the `desk`, where the other threads
wait: they call the same kernel with the same arguments and another `own`. Where the caller finds no
task left, it closes the desk, and waits within the kernel for those that joined: its arguments
would not outlive it. `begin` stands in the kernel itself, whose second parameter is called `own`.

The desk's word is 2^16 times the number of the kernel, plus OPEN, plus the number of threads that
have joined. All of it is in arrays of int64, so that compiled code reads and writes it.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.extending import intrinsic
from numpy import empty

from refsnn.equations.surrogate import Array

INDEX = ir.IntType(64)
OPEN, JOINED = 1 << 15, (1 << 15) - 1  # a bit of the desk's word, and the bits below it

#: entries of `tasks`: tasks taken, all tasks, and the desk's address, 0 where none may help
TAKEN, ALL, DESK, ARGUMENTS, ROOM = 0, 1, 2, 3, 256
#: entries of the desk, those that are written apart from others: its word; the kernel, its tasks,
#: how many may help; how many have left; how many of them failed
WORD, KERNEL, TASKS, HELPERS, LEFT, FAILED, ENTRIES = 0, 8, 9, 10, 16, 24, 32

#: times that a thread looks at the desk before it sleeps, some 200 us: longer than most kernels are
#: apart, so that they do not wait until threads wake
ROUNDS = 60_000
OFTEN = 1024  # looks between which a waiting thread lets programs run that wait for its core


def make_tasks(count: int, desk: int = 0) -> Array:
    """Return the tasks of a kernel; `desk` is the desk's address, 0 where none may help."""
    tasks = empty(ROOM, np.int64)
    tasks[TAKEN], tasks[ALL], tasks[DESK] = 0, count, desk
    return tasks


def name_yield() -> Any:
    """Give the system's function that lets other threads run a name for compiled code.

    Where it is not found, it is a function that does nothing that would be seen.
    """
    windows = getattr(ctypes, "windll", None)
    try:
        function = windows.kernel32.SwitchToThread if windows else ctypes.CDLL(None).sched_yield
    except (AttributeError, OSError, TypeError):
        function = ctypes.pythonapi.Py_GetVersion
    binding.add_symbol("refsnn_yield", ctypes.cast(function, ctypes.c_void_p).value)
    return function


let_others_run = name_yield()


def take_twin(tasks: Array, own: int) -> int:
    """Return the next task, -1 if none is left."""
    tasks[TAKEN] += 1
    return int(tasks[TAKEN]) - 1 if tasks[TAKEN] <= tasks[ALL] else -1


def begin_twin(tasks: Array, own: int) -> int:
    """Return the first task of a thread, -1 if none is left."""
    return take_twin(tasks, own)


def entry(context: Any, builder: Any, kind: Any, array: Any, index: int) -> Any:
    """Return the pointer to an entry of an array of int64."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [INDEX(index)])


def emit_take(builder: Any, data: Any, own: Any) -> Any:
    """Emit what `take_twin` does, for all threads at once; the caller waits for the others."""
    task = builder.atomic_rmw("add", builder.gep(data, [INDEX(TAKEN)]), INDEX(1), "seq_cst")
    count = builder.load(builder.gep(data, [INDEX(ALL)]))
    desk = builder.load(builder.gep(data, [INDEX(DESK)]))
    over = builder.icmp_signed(">=", task, count)
    shared = builder.icmp_signed("!=", desk, INDEX(0))
    callers = builder.and_(builder.icmp_signed("==", own, INDEX(0)), shared)
    with builder.if_then(builder.and_(over, callers), likely=False):
        builder.call(closing(builder.module), [desk])
    return builder.select(over, INDEX(-1), task)


def closing(module: Any) -> Any:
    """Return the function that closes the desk and waits for the threads that joined."""
    name = "refsnn.close"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INDEX]), name)
    function.linkage = "internal"
    before, loop, rest, after = (
        function.append_basic_block(text) for text in ("before", "loop", "rest", "after")
    )
    builder = ir.IRBuilder(before)
    desk = builder.inttoptr(function.args[0], INDEX.as_pointer())
    word, left = (builder.gep(desk, [INDEX(index)]) for index in (WORD, LEFT))
    joined = builder.and_(
        builder.atomic_rmw("and", word, INDEX(~(OPEN | JOINED)), "seq_cst"), INDEX(JOINED)
    )
    builder.branch(loop)
    builder.position_at_end(loop)
    rounds = builder.phi(INDEX)
    rounds.add_incoming(INDEX(1), before)
    here = builder.icmp_signed("<", builder.load_atomic(left, "seq_cst", 8), joined)
    builder.cbranch(here, rest, after)
    builder.position_at_end(rest)
    often = builder.and_(rounds, INDEX(OFTEN - 1))
    with builder.if_then(builder.icmp_signed("==", often, INDEX(0))):
        emit_yield(builder)
    rounds.add_incoming(builder.add(rounds, INDEX(1)), builder.block)
    builder.branch(loop)
    builder.position_at_end(after)
    builder.ret_void()
    return function


def emit_yield(builder: Any) -> None:
    """Emit a call of the function that lets other programs run."""
    signature, name = ir.FunctionType(ir.IntType(32), []), "refsnn_yield"
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    builder.call(function, [])


def emit_helping(context: Any, module: Any, kernel: Any) -> Any:
    """Emit the function by which a thread helps: it calls the kernel with arguments in memory.

    It takes the arguments' address and the thread's number, and returns Numba's code of an error.
    Its arrays have no owner: Numba counts an array's users where it is passed to a function, and
    two threads that count one array's users wait for each other, up to ten times as long as they
    compute. The caller holds the arrays until the helpers have left.
    """
    kinds = ir.LiteralStructType([value.type for value in kernel.args[2:]])
    if context.get_abi_sizeof(kinds) > 8 * (ROOM - ARGUMENTS):
        raise TypeError(f"{kernel.name}: its arguments take more than {ROOM - ARGUMENTS} entries")
    signature = ir.FunctionType(ir.IntType(32), [INDEX, INDEX])
    helping = ir.Function(module, signature, name=f"{kernel.name}.helping")
    helping.linkage = "internal"
    builder = ir.IRBuilder(helping.append_basic_block())
    given = builder.inttoptr(helping.args[0], kinds.as_pointer())
    values = [
        builder.load(builder.gep(given, [INDEX(0), ir.IntType(32)(i)]))
        for i in range(len(kinds.elements))
    ]
    (place,) = (i for i, value in enumerate(kernel.args[2:]) if value.name == "arg.own")
    values[place] = helping.args[1]
    for i in owners([value.type for value in values]):
        values[i] = ir.Constant(values[i].type, None)
    results = [builder.alloca(value.type.pointee) for value in kernel.args[:2]]
    for result in results:
        builder.store(ir.Constant(result.type.pointee, None), result)
    builder.ret(builder.call(kernel, [*results, *values]))
    return helping


def owners(kinds: list[Any]) -> list[int]:
    """Return the indices of the arguments that are an array's owner.

    Numba passes an array as owner, Python object, sizes of the array and of an element, data, shape
    and strides. An owner of null is one whose users are not counted.
    """
    whole, byte = INDEX, ir.IntType(8).as_pointer()
    heads = (kinds[i : i + 4] for i in range(len(kinds)))
    return [i for i, head in enumerate(heads) if head == [byte, byte, whole, whole]]


@intrinsic
def compiled_begin(context, tasks, own):  # type: ignore[no-untyped-def]
    """Let other threads help where the caller's begins; then do as `take`."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        data = entry(context, builder, kinds.args[0], values[0], 0)
        address = builder.load(builder.gep(data, [INDEX(DESK)]))
        opens = builder.and_(
            builder.icmp_signed("==", values[1], INDEX(0)),
            builder.icmp_signed("!=", address, INDEX(0)),
        )
        kernel = builder.function
        helping = emit_helping(context, builder.module, kernel)
        with builder.if_then(opens):
            kinds_of = [value.type for value in kernel.args[2:]]
            room = builder.gep(data, [INDEX(ARGUMENTS)])
            given = builder.bitcast(room, ir.LiteralStructType(kinds_of).as_pointer())
            for i, value in enumerate(kernel.args[2:]):
                builder.store(value, builder.gep(given, [INDEX(0), ir.IntType(32)(i)]))
            desk = builder.inttoptr(address, INDEX.as_pointer())
            word = builder.gep(desk, [INDEX(WORD)])
            builder.store(builder.ptrtoint(helping, INDEX), builder.gep(desk, [INDEX(KERNEL)]))
            builder.store(builder.ptrtoint(room, INDEX), builder.gep(desk, [INDEX(TASKS)]))
            number = builder.add(builder.lshr(builder.load(word), INDEX(16)), INDEX(1))
            opened = builder.or_(builder.shl(number, INDEX(16)), INDEX(OPEN))
            builder.store_atomic(opened, word, "seq_cst", 8)
        return emit_take(builder, data, values[1])

    return types.int64(tasks, own), codegen


@intrinsic
def compiled_take(context, tasks, own):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        return emit_take(builder, entry(context, builder, kinds.args[0], values[0], 0), values[1])

    return types.int64(tasks, own), codegen


if config.DISABLE_JIT:
    begin: Callable[[Array, int], int] = begin_twin
    take: Callable[[Array, int], int] = take_twin
else:
    begin, take = compiled_begin, compiled_take


@intrinsic
def look(context, desk, index):  # type: ignore[no-untyped-def]
    """Return an entry of the desk as it is now."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        data = context.make_array(kinds.args[0])(context, builder, values[0]).data
        at = context.cast(builder, values[1], kinds.args[1], types.int64)
        return builder.load_atomic(builder.gep(data, [at]), "seq_cst", 8)

    return types.int64(desk, index), codegen


@intrinsic
def add(context, desk, index, number):  # type: ignore[no-untyped-def]
    """Add to an entry of the desk; return what it was."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        data = context.make_array(kinds.args[0])(context, builder, values[0]).data
        at, number = (
            context.cast(builder, value, kind, types.int64)
            for value, kind in zip(values[1:], kinds.args[1:], strict=True)
        )
        return builder.atomic_rmw("add", builder.gep(data, [at]), number, "seq_cst")

    return types.int64(desk, index, number), codegen


@intrinsic
def join(context, desk, word):  # type: ignore[no-untyped-def]
    """Join if the desk's word is still this one; tell whether it was."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        place = entry(context, builder, kinds.args[0], values[0], WORD)
        one_more = builder.add(values[1], INDEX(1))
        found = builder.cmpxchg(place, values[1], one_more, "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(desk, word), codegen


@intrinsic
def compiled_close(context, desk):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        place = entry(context, builder, kinds.args[0], values[0], 0)
        builder.call(closing(builder.module), [builder.ptrtoint(place, INDEX)])
        return context.get_dummy_value()

    return types.void(desk), codegen


@intrinsic
def help_out(context, desk, own):  # type: ignore[no-untyped-def]
    """Call the desk's kernel as thread `own`; return Numba's code of an error."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        kernel, tasks = (
            builder.load(entry(context, builder, kinds.args[0], values[0], index))
            for index in (KERNEL, TASKS)
        )
        signature = ir.FunctionType(ir.IntType(32), [INDEX, INDEX])
        function = builder.inttoptr(kernel, signature.as_pointer())
        return builder.call(function, [tasks, values[1]])

    return types.int32(desk, own), codegen


@intrinsic
def give_way(context):  # type: ignore[no-untyped-def]
    """Let other programs run that wait for this core."""

    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        emit_yield(builder)
        return context.get_dummy_value()

    return types.void(), codegen


@njit(nogil=True, cache=True, error_model="numpy")
def serve(desk, own, seen):  # type: ignore[no-untyped-def]
    """Help with each kernel, until none has come for some time; return the last one's number.

    The kernel of number `seen` is over.
    """
    rounds = 0
    while rounds < ROUNDS:
        word = look(desk, WORD)
        if word & OPEN and word >> 16 != seen and own <= look(desk, HELPERS) and join(desk, word):
            code = help_out(desk, own)
            if code != 0 and code != -2:  # of None; other codes are errors
                add(desk, FAILED, 1)
            add(desk, LEFT, 1)
            seen, rounds = word >> 16, 0
        rounds += 1
        if rounds % OFTEN == 0:
            give_way()
    return seen


@njit(nogil=True, cache=True, error_model="numpy")
def close(desk):  # type: ignore[no-untyped-def]
    """Close the desk, and wait for those that joined; return how many of them failed.

    It is closed by then, unless the caller's kernel raised an error.
    """
    compiled_close(desk)
    return look(desk, FAILED)
