"""A convolution as oneDNN's primitives and memories, written down as a row for the handler.

Images lie as `[B, H, W, C]` and kernels as `[H, W, C, features]`, and oneDNN is told so by strides.
Only the kernel is brought into the order that its machine code wants, and a kernel's gradient out
of it: in every call, which is a small part of its time.
"""

import ctypes

import numpy as np

from .library import Library, Unsupported, check

FORWARD_INFERENCE, FORWARD_TRAINING, DIRECT, RELU, ADD = 96, 64, 1, 0x20, 0x1FFF0
SOURCE, WEIGHTS, DESTINATION, BIAS, SCRATCHPAD = 1, 33, 17, 41, 80
DIFF_SOURCE, DIFF_WEIGHTS, DIFF_DESTINATION = 129, 161, 145
FIRST_POST_OPERATION = 32768 | 2  # the second operand of the first of them
WEIGHTS_OF, DIFF_WEIGHTS_OF, SCRATCHPAD_OF = 131, 132, 136  # queries
SLOPE = 1e-30  # of a ReLU below zero: at 0 oneDNN would make zeros of NaN; twice, and it is 0
ANY_ORDER, USER_SCRATCHPAD, ALIGNMENT = 1, 1, 64
TYPES = {"float32": 3, "bfloat16": 2}


def build(convolution, library: Library) -> tuple[np.ndarray, int]:
    """The row of a convolution, and the bytes of workspace that it is called with.

    Raises: Unsupported where the library has no kernel for it, or one that is known to be wrong.
    """
    _refuse_what_is_wrong(convolution)
    builder = _Builder(library)
    getattr(builder, convolution.kind)(convolution)
    return builder.row(), builder.workspace


def _refuse_what_is_wrong(convolution):
    """oneDNN 3.2's gradient of a strided 1x1 kernel writes outside its scratchpad where channels
    are no multiple of 16."""
    channels = convolution.kernel[2], convolution.kernel[3] // convolution.groups
    if (
        convolution.kind == "kernel_gradient"
        and max(convolution.stride) > 1
        and convolution.kernel[:2] == (1, 1)
        and any(c % 16 for c in channels)
    ):
        raise Unsupported


class _Builder:
    """Collects what a row says: bindings of memories to buffers, and operations in order.

    Buffers are numbered as the call has them: operands, result, workspace.
    """

    def __init__(self, library: Library):
        self.functions, self.engine = library.functions, library.engine
        self.bindings, self.operations, self.workspace = [], [], 0

    def forward(self, c):
        image, kernel, output = (
            self.image(c.image, c.dtype),
            self.kernel(c),
            self.image(c.output, c.dtype),
        )
        bias = self.descriptor((c.kernel[3],), c.dtype, (1,)) if c.bias else None
        primitive = self.create(
            "dnnl_convolution_forward_primitive_desc_create",
            *(FORWARD_INFERENCE, DIRECT, image, self.kernel(c, ordered=False), bias, output),
            *_window(c),
            self.attributes(c.relu, output if c.addend else None),
        )
        last = 2 + c.bias + c.addend
        arguments = [
            (SOURCE, self.memory(image, 0)),
            (WEIGHTS, self.brought_in(kernel, 1, self.query(primitive, WEIGHTS_OF), last + 1)),
            (DESTINATION, self.memory(output, last)),
        ]
        if c.bias:
            arguments.append((BIAS, self.memory(bias, 2)))
        if c.addend:
            arguments.append((FIRST_POST_OPERATION, self.memory(output, last - 1)))
        self.operate(primitive, arguments, last + 1)

    def input_gradient(self, c):
        image, kernel, output = (
            self.image(c.image, c.dtype),
            self.kernel(c),
            self.image(c.output, c.dtype),
        )
        primitive = self.create(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(DIRECT, image, self.kernel(c, ordered=False), output, *_window(c)),
            self.hint(c),
            self.attributes(),
        )
        arguments = [
            (DIFF_DESTINATION, self.memory(output, 0)),
            (WEIGHTS, self.brought_in(kernel, 1, self.query(primitive, WEIGHTS_OF), 3)),
            (DIFF_SOURCE, self.memory(image, 2)),
        ]
        self.operate(primitive, arguments, 3)

    def kernel_gradient(self, c):
        image, kernel, output = (
            self.image(c.image, c.dtype),
            self.kernel(c),
            self.image(c.output, c.dtype),
        )
        primitive = self.create(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            *(DIRECT, image, self.kernel(c, ordered=False), None, output, *_window(c)),
            self.hint(c),
            self.attributes(),
        )
        inside = self.query(primitive, DIFF_WEIGHTS_OF)
        same = self.functions.dnnl_memory_desc_equal(kernel, inside)
        outside = self.memory(kernel, 2)
        found = outside if same else self.memory(inside, 3, self.reserve(inside))
        arguments = [
            (SOURCE, self.memory(image, 0)),
            (DIFF_DESTINATION, self.memory(output, 1)),
            (DIFF_WEIGHTS, found),
        ]
        self.operate(primitive, arguments, 3)
        if not same:
            self.reorder(inside, found, kernel, outside, 3)

    def hint(self, c):
        """The forward pass that a gradient belongs to."""
        return self.create(
            "dnnl_convolution_forward_primitive_desc_create",
            *(FORWARD_TRAINING, DIRECT, self.image(c.image, c.dtype)),
            *(self.kernel(c, ordered=False), None, self.image(c.output, c.dtype)),
            *_window(c),
            self.attributes(),
        )

    def brought_in(self, outside, buffer, inside, workspace):
        """The memory of a kernel in the order that is wanted, copied there where it is another."""
        memory = self.memory(outside, buffer)
        if self.functions.dnnl_memory_desc_equal(outside, inside):
            return memory
        copy = self.memory(inside, workspace, self.reserve(inside))
        self.reorder(outside, memory, inside, copy, workspace)
        return copy

    # Descriptors --------------------------------------------------------------------------------

    def image(self, shape, dtype):
        b, h, w, c = shape
        return self.descriptor((b, c, h, w), dtype, (h * w * c, 1, w * c, c))

    def kernel(self, c, ordered=True):
        height, width, inputs, features = c.kernel
        dims = features, inputs, height, width
        strides = 1, features, width * inputs * features, inputs * features
        if c.groups > 1:
            each = features // c.groups
            dims, strides = (c.groups, each, *dims[1:]), (each, *strides)
        return self.descriptor(dims, c.dtype, strides if ordered else None)

    def descriptor(self, dims, dtype, strides):
        found = ctypes.c_void_p()
        start = ctypes.byref(found), len(dims), _numbers(dims), TYPES[dtype]
        if strides is None:
            check(self.functions.dnnl_memory_desc_create_with_tag(*start, ANY_ORDER))
        else:
            check(self.functions.dnnl_memory_desc_create_with_strides(*start, _numbers(strides)))
        return found

    def attributes(self, relu=False, addend=None):
        found = ctypes.c_void_p()
        check(self.functions.dnnl_primitive_attr_create(ctypes.byref(found)))
        check(self.functions.dnnl_primitive_attr_set_scratchpad_mode(found, USER_SCRATCHPAD))
        then = ctypes.c_void_p()
        check(self.functions.dnnl_post_ops_create(ctypes.byref(then)))
        if addend is not None:
            check(self.functions.dnnl_post_ops_append_binary(then, ADD, addend))
        if relu:
            slope, unused = ctypes.c_float(SLOPE), ctypes.c_float(0)
            for _ in range(2):
                check(self.functions.dnnl_post_ops_append_eltwise(then, RELU, slope, unused))
        check(self.functions.dnnl_primitive_attr_set_post_ops(found, then))
        return found

    def create(self, name, *arguments):
        found = ctypes.c_void_p()
        check(getattr(self.functions, name)(ctypes.byref(found), self.engine, *arguments))
        return found

    def query(self, primitive, what):
        return ctypes.c_void_p(self.functions.dnnl_primitive_desc_query_md(primitive, what, 0))

    # The row ------------------------------------------------------------------------------------

    def reserve(self, descriptor) -> int:
        """Room for it in the workspace: the offset."""
        offset = self.workspace
        size = self.functions.dnnl_memory_desc_get_size(descriptor)
        self.workspace += -(-size // ALIGNMENT) * ALIGNMENT
        return offset

    def memory(self, descriptor, buffer, offset=0) -> int:
        found = ctypes.c_void_p()
        check(self.functions.dnnl_memory_create(ctypes.byref(found), descriptor, self.engine, None))
        self.bindings.append((found.value, buffer, offset))
        return found.value

    def operate(self, descriptor, arguments, workspace):
        scratchpad = self.query(descriptor, SCRATCHPAD_OF)
        if self.functions.dnnl_memory_desc_get_size(scratchpad):
            memory = self.memory(scratchpad, workspace, self.reserve(scratchpad))
            arguments = [*arguments, (SCRATCHPAD, memory)]
        primitive = ctypes.c_void_p()
        check(self.functions.dnnl_primitive_create(ctypes.byref(primitive), descriptor))
        self.operations.append((primitive.value, arguments))

    def reorder(self, source, source_memory, target, target_memory, workspace):
        descriptor = ctypes.c_void_p()
        check(
            self.functions.dnnl_reorder_primitive_desc_create(
                ctypes.byref(descriptor),
                *(source, self.engine, target, self.engine, self.attributes()),
            )
        )
        arguments = [(SOURCE, source_memory), (DESTINATION, target_memory)]
        self.operate(descriptor, arguments, workspace)

    def row(self) -> np.ndarray:
        """As `handler` reads it; the operations' arguments lie behind it in the same array."""
        numbers = [len(self.bindings), len(self.operations), *np.ravel(self.bindings)]
        place = len(numbers) + 3 * len(self.operations)
        row = np.zeros(place + 2 * sum(len(a) for _, a in self.operations), np.int64)
        for primitive, arguments in self.operations:
            numbers += [primitive, len(arguments), row.ctypes.data + 8 * place]
            row[place : place + 2 * len(arguments)] = np.ravel(arguments)
            place += 2 * len(arguments)
        row[: len(numbers)] = numbers
        return row


def _window(c):
    dilation = [d - 1 for d in c.dilation]
    low, high = ([pads[side] for pads in c.padding] for side in (0, 1))
    return [_numbers(values) for values in (c.stride, dilation, low, high)]


def _numbers(values):
    return (ctypes.c_int64 * len(values))(*values)
