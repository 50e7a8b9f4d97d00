"""Memory in compiled code: addresses are 64-bit integers, as in `frame`. Needs numba."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WORD = ir.IntType(64)


@intrinsic
def load(typing, address):
    """64 bits at an address."""

    def emit(context, builder, signature, values):
        return builder.load(builder.inttoptr(values[0], WORD.as_pointer()))

    return types.int64(types.int64), emit


@intrinsic
def store(typing, address, value):
    """Writes 64 bits at an address."""

    def emit(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], WORD.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def count_up(typing, address):
    """The number at an address, to which 1 is added before any other thread sees it."""

    def emit(context, builder, signature, values):
        place = builder.inttoptr(values[0], WORD.as_pointer())
        return builder.atomic_rmw("add", place, WORD(1), "seq_cst")

    return types.int64(types.int64), emit


@intrinsic
def call(typing, function, argument):
    """What the function at an address answers to one word."""

    def emit(context, builder, signature, values):
        kind = ir.FunctionType(WORD, [WORD]).as_pointer()
        return builder.call(builder.inttoptr(values[0], kind), [values[1]])

    return types.int64(types.int64, types.int64), emit


@intrinsic
def pointer(typing, address):
    """An address as `numba.carray` takes it."""

    def emit(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), emit


@intrinsic
def widen(typing, value):
    """A float32, or the bits of a bfloat16, as float32."""

    def emit(context, builder, signature, values):
        if signature.args[0] == types.float32:
            return values[0]
        bits = builder.shl(builder.zext(values[0], ir.IntType(32)), ir.IntType(32)(16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(value), emit
