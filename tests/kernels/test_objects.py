"""Object files that LLVM writes are linked, loaded and protected; those that do not fit are refused."""

import ctypes
import math
import pathlib
import struct
import subprocess
import sys

import pytest
from in_threads import at_once
from llvmlite import binding

import nbkeras.kernels
from nbkeras.kernels.runtime import elf, objects

binding.initialize_all_targets()
binding.initialize_all_asmprinters()

X86_64, AARCH64, MACOS = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"
LOADERS = [objects.load, objects.load_with_llvmlite]
here = pytest.mark.skipif(not objects.is_supported(), reason="this system's objects are loaded by llvmlite")

# All ways in which code reaches something, and all kinds of constants and data.
EVERYTHING = """
@table = internal constant [3 x double] [double 1.5, double 2.5, double 3.5]
@bytes = internal constant [3 x i8] c"\\07\\08\\09"
@shorts = internal constant [3 x i16] [i16 300, i16 301, i16 302]
@words = internal constant [3 x i32] [i32 70000, i32 70001, i32 70002]
@vector = internal constant <4 x float> <float 1.0, float 2.0, float 3.0, float 4.0>, align 16
@steps = internal constant [2 x ptr] [ptr @one_more, ptr @outside]
@counter = internal global i64 5
@zeros = internal global [600 x i64] zeroinitializer, align 64
@shared = common global i64 0
@outer = external global i64

declare i64 @outside(i64)
declare double @exp(double)

define internal i64 @one_more(i64 %x) noinline {
  %y = add i64 %x, 1
  ret i64 %y
}
define i64 @call_outside(i64 %x) {
  %y = call i64 @outside(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
define i64 @call_by_address(i64 %i, i64 %x) {
  %p = getelementptr ptr, ptr @steps, i64 %i
  %f = load ptr, ptr %p
  %y = call i64 %f(i64 %x)
  ret i64 %y
}
define double @exponential(double %x) {
  %y = call double @exp(double %x)
  %z = fadd double %y, 0.1
  ret double %z
}
define double @entry(i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %y = load double, ptr %p
  ret double %y
}
define i64 @small_ones() {
  %pa = getelementptr i8, ptr @bytes, i64 1
  %a = load i8, ptr %pa
  %pb = getelementptr i16, ptr @shorts, i64 1
  %b = load i16, ptr %pb
  %pc = getelementptr i32, ptr @words, i64 1
  %c = load i32, ptr %pc
  %x = zext i8 %a to i64
  %y = zext i16 %b to i64
  %z = zext i32 %c to i64
  %s = add i64 %x, %y
  %t = add i64 %s, %z
  ret i64 %t
}
define float @fourth() {
  %v = load volatile <4 x float>, ptr @vector
  %y = extractelement <4 x float> %v, i32 3
  ret float %y
}
define i64 @count() {
  %a = load i64, ptr @counter
  %b = add i64 %a, 1
  store i64 %b, ptr @counter
  ret i64 %b
}
define i64 @exchange(i64 %i, i64 %x) {
  %p = getelementptr i64, ptr @zeros, i64 %i
  %old = load i64, ptr %p
  store i64 %x, ptr %p
  ret i64 %old
}
define i64 @exchange_shared(i64 %x) {
  %old = load i64, ptr @shared
  store i64 %x, ptr @shared
  ret i64 %old
}
define i64 @read_outer() {
  %y = load i64, ptr @outer
  ret i64 %y
}
define ptr @address_of_outside() {
  ret ptr @outside
}
define ptr @place(i64 %i) {
  switch i64 %i, label %d [ i64 0, label %a
                            i64 1, label %b
                            i64 2, label %c ]
a:
  ret ptr @table
b:
  ret ptr @steps
c:
  ret ptr @counter
d:
  ret ptr @zeros
}
define i64 @choose(i64 %k, i64 %x) {
  switch i64 %k, label %other [ i64 0, label %a
                                i64 1, label %b
                                i64 2, label %c
                                i64 3, label %d
                                i64 4, label %e ]
a:
  %ya = call i64 @outside(i64 %x)
  ret i64 %ya
b:
  %yb = call i64 @one_more(i64 %x)
  ret i64 %yb
c:
  %yc = mul i64 %x, %x
  ret i64 %yc
d:
  %yd = sub i64 0, %x
  ret i64 %yd
e:
  %ye = xor i64 %x, 255
  ret i64 %ye
other:
  ret i64 -1
}
"""
TWICE = "define i64 @twice(i64 %x) {\n  %y = shl i64 %x, 1\n  ret i64 %y\n}\n"
FAR = "declare i64 @far(i64)\ndefine i64 @near(i64 %x) {\n  %y = call i64 @far(i64 %x)\n  ret i64 %y\n}\n"
BASE = 0x7F12_3456_0000
_INT = ctypes.c_int64


def compiled(source, triple=None, reloc="pic"):
    """LLVM's object file of some IR."""
    module = binding.parse_assembly(source)
    module.triple = triple or binding.get_process_triple()
    target = binding.Target.from_triple(module.triple)
    return target.create_target_machine(opt=3, reloc=reloc, codemodel="small").emit_object(module)


def linked(content, machine, resolve=lambda name: 1 << 40, base=BASE):
    return elf.ObjectLayout(content, machine, 4096).link(base, resolve)


@ctypes.CFUNCTYPE(_INT, _INT)
def outside(x):
    return x * 10


OUTER = _INT(77)
OUTSIDE = ctypes.cast(outside, ctypes.c_void_p).value
KNOWN = {"outside": OUTSIDE, "outer": ctypes.addressof(OUTER)}


def resolve(name):
    return KNOWN.get(name) or objects.library_symbol(name)


def call(address, *args, result=_INT):
    kinds = [ctypes.c_double if isinstance(arg, float) else _INT for arg in args]
    return ctypes.CFUNCTYPE(result, *kinds)(address)(*args)


def check_everything(functions):
    def run(name, *args, result=_INT):
        return call(functions[name], *args, result=result)

    assert run("call_outside", 4) == 41
    assert [run("call_by_address", i, 4) for i in range(2)] == [5, 40]
    assert run("exponential", 1.0, result=ctypes.c_double) == math.exp(1.0) + 0.1
    assert [run("entry", i, result=ctypes.c_double) for i in range(3)] == [1.5, 2.5, 3.5]
    assert run("small_ones") == 8 + 301 + 70001
    assert run("fourth", result=ctypes.c_float) == 4.0
    assert [run("count"), run("count")] == [6, 7]
    assert [run("exchange", 599, 3), run("exchange", 599, 4), run("exchange", 0, 1)] == [0, 3, 0]
    assert [run("exchange_shared", 3), run("exchange_shared", 4)] == [0, 3]
    assert run("read_outer") == 77
    assert run("address_of_outside") == OUTSIDE
    assert [run("choose", k, 5) for k in range(6)] == [50, 6, 25, -5, 250, -1]


@pytest.mark.parametrize("load", LOADERS)
def test_a_loaded_object_runs(load):
    source = EVERYTHING
    if sys.platform == "darwin":  # whose linker MCJIT does not have: zeros of several objects become one
        source = source.replace("common global", "internal global")
    functions = load(compiled(source), resolve)
    assert "one_more" not in functions  # internal
    check_everything(functions)


@here
def test_calls_that_are_out_of_reach_go_through_stubs(monkeypatch):
    for name, machine in elf._MACHINES.items():
        monkeypatch.setitem(elf._MACHINES, name, machine._replace(call_reach=0))
    check_everything(objects.load(compiled(EVERYTHING), resolve))


@here
def test_no_page_is_writable_and_executable():
    functions = objects.load(compiled(EVERYTHING), resolve)
    lines = [line.split()[:2] for line in pathlib.Path("/proc/self/maps").read_text().splitlines()]
    maps = [(*(int(end, 16) for end in span.split("-")), access) for span, access in lines]

    def access(address):
        return next(access for first, last, access in maps if first <= address < last)

    assert {access(address) for address in functions.values()} == {"r-xp"}
    table, steps, counter, zeros = (access(call(functions["place"], i)) for i in range(4))
    assert (table, steps, counter, zeros) == ("r--p", "r--p", "rw-p", "rw-p")


@here
@pytest.mark.parametrize("reason", ["a symbol is missing", "the system does not protect memory", "there is no memory"])
def test_what_is_not_loaded_leaves_no_memory_behind(monkeypatch, reason):
    system, mapped = objects._memory_functions(), []

    class Counting:
        def mmap(self, *args):
            if reason == "there is no memory":
                ctypes.set_errno(12)
                return ctypes.c_void_p(-1).value
            mapped.append(system.mmap(*args))
            return mapped[-1]

        def munmap(self, address, size):
            mapped.remove(address)
            return system.munmap(address, size)

        def mprotect(self, *args):
            return ctypes.set_errno(13) or -1

    monkeypatch.setattr(objects, "_memory_functions", Counting)
    if reason == "a symbol is missing":
        with pytest.raises(objects.UnresolvedSymbol, match="uses the symbol 'far', which neither"):
            objects.load(compiled(FAR), objects.library_symbol)
    else:
        error = PermissionError if "protect" in reason else OSError
        with pytest.raises(
            error, match="does not let this process (protect the memory of|map memory for) a compiled kernel"
        ):
            objects.load(compiled(TWICE), resolve)
    assert mapped == []


@pytest.mark.parametrize("load", LOADERS)
def test_objects_call_each_other(load):
    far = load(compiled(TWICE), resolve)["twice"]
    assert call(load(compiled(FAR), {"far": far}.get)["near"], 4) == 8


@pytest.mark.parametrize("load", LOADERS)
def test_threads_load_at_once(load):
    content = compiled(EVERYTHING)
    loaded = at_once(*[lambda: load(content, resolve)] * 8)
    assert [call(functions["count"]) for functions in loaded] == [6] * 8  # each has data of its own


@pytest.mark.parametrize("load", LOADERS)
def test_a_symbol_that_nobody_defines(load):
    with pytest.raises(LookupError, match="uses the symbol 'far', which neither the C library") as caught:
        load(compiled(FAR), objects.library_symbol)
    assert caught.value.name == "far"


def test_symbols_of_the_library():
    add = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)(objects.library_symbol("pow"))
    assert add(2.0, 10.0) == 1024.0
    assert all(map(objects.library_symbol, ("memset", "memcpy", "memmove", "exp", "log", "fmod", "expf", "logf")))
    assert objects.library_symbol("nbkeras_none") is None
    assert objects.library_symbol("_name") is None  # an attribute of ctypes's libraries


WITHOUT_COMPILER = """
import ctypes, os, sys, types
for name, folder in (("nbkeras", ""), ("nbkeras.kernels", ""), ("nbkeras.kernels.runtime", "/runtime")):
    sys.modules[name] = types.ModuleType(name)  # without what the packages import
    sys.modules[name].__path__ = [sys.argv[1] + folder]
from nbkeras.kernels.runtime import objects
with open(sys.argv[2], "rb") as file:
    count = ctypes.CFUNCTYPE(ctypes.c_int64)(objects.load(file.read(), lambda name: 1 << 40)["count"])
assert not {"numba", "llvmlite", "numpy"} & set(sys.modules)
assert count() == 6
child = os.fork()
if not child:
    os._exit(count())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert count() == 7  # a fork has data of its own
"""


@here
def test_a_process_needs_no_compiler_to_load(tmp_path):
    path = tmp_path / "kernel.o"
    path.write_bytes(compiled(EVERYTHING))
    kernels = pathlib.Path(nbkeras.kernels.__file__).parent
    command = [sys.executable, "-c", WITHOUT_COMPILER, str(kernels), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# -------------------- both machines, on any machine --------------------


@pytest.mark.parametrize(("far", "direct"), [(BASE - (1 << 30), True), (0x1234, False)], ids=["near", "far"])
def test_calls_of_x86_64(far, direct):
    image, functions = elf.ObjectLayout(compiled(FAR, X86_64), "x86_64", 4096).link(BASE, lambda name: far)
    assert functions == {"near": BASE}
    code = next(at for at in range(16) if image[at] in (0xE8, 0xE9))  # call, or jmp where it is the last thing
    target = code + 5 + struct.unpack_from("<i", image, code + 1)[0]
    assert (target == far - BASE) == direct
    assert direct or image[target:][:14] == b"\xff\x25\0\0\0\0" + struct.pack("<Q", far)  # jmp [rip]


class Decoded:
    """The addresses that instructions of aarch64 refer to, read from the linked words alone."""

    def __init__(self, image, base):
        self.calls, self.addresses, pages = set(), {}, {}
        for at in range(0, len(image) - 3, 4):
            (word,) = struct.unpack_from("<I", image, at)
            place, low, source = base + at, word & 31, word >> 5 & 31
            if word & 0x7C000000 == 0x14000000:  # b, bl
                distance = (word & 0x3FFFFFF) - (word >> 25 & 1) * (1 << 26)
                self.calls.add(place + 4 * distance)
            elif word & 0x9F000000 == 0x90000000:  # adrp
                pages_away = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
                pages[low] = (place & ~0xFFF) + ((pages_away - (pages_away >> 20) * (1 << 21)) << 12)
            elif word & 0xFFC00000 == 0x91000000 and source in pages:  # add
                self.addresses[pages[source] + (word >> 10 & 0xFFF)] = "add"
            elif word & 0x3B000000 == 0x39000000 and source in pages:  # ldr, str
                size = 16 if word >> 23 & 1 and word >> 26 & 1 else 1 << (word >> 30)
                self.addresses[pages[source] + (word >> 10 & 0xFFF) * size] = size


@pytest.mark.parametrize(
    ("far", "direct"),
    [(BASE + (100 << 20), True), (BASE - (128 << 20) + 0x400, True), (BASE - (128 << 20), False), (1 << 40, False)],
    ids=["near", "at the edge", "beyond the edge", "far"],
)
def test_aarch64_code_refers_to_what_was_meant(far, direct):
    known = {"outside": far, "outer": 0x5555_0000_1238, "exp": far + 64}
    plan = elf.ObjectLayout(compiled(EVERYTHING, AARCH64), "aarch64", 65536)  # a page of some systems
    assert (plan.constants, plan.data) == (65536, 131072)
    image, functions = plan.link(BASE, known.get)
    decoded = Decoded(image[: plan.constants], BASE)

    def content(layout, address):
        return struct.unpack_from(layout, image, address - BASE)

    def jumped(address):
        """Where a call ends, after a stub if there is one."""
        if BASE <= address < BASE + len(image) and content("<II", address) == (0x58000050, 0xD61F0200):
            return content("<Q", address + 8)[0]
        return address

    assert {known["outside"], known["exp"]} <= {jumped(address) for address in decoded.calls}
    assert (known["outside"] in decoded.calls) == direct
    loads = {size: [a for a, s in decoded.addresses.items() if s == size] for size in (1, 2, 4, 8, 16, "add")}
    assert [content("<B", address) for address in loads[1]] == [(8,)]
    assert [content("<H", address) for address in loads[2]] == [(301,)]
    assert [content("<I", address) for address in loads[4]] == [(70001,)]
    assert [content("<4f", address) for address in loads[16]] == [(1.0, 2.0, 3.0, 4.0)]
    within = [address for address in loads[8] if address < BASE + len(image)]
    found = {content("<Q", address)[0] for address in within}
    assert {known["outside"], known["outer"], 5, struct.unpack("<Q", struct.pack("<d", 0.1))[0]} <= found
    tables = [address for address in loads["add"] if address + 16 <= BASE + len(image)]
    assert (1.5, 2.5) in [content("<2d", address) for address in tables]
    assert known["outside"] in [content("<2Q", address)[1] for address in tables]
    assert all(content("<I", address)[0] for address in functions.values())


@pytest.mark.parametrize(("triple", "machine"), [(X86_64, "x86_64"), (AARCH64, "aarch64")], ids=["x86_64", "aarch64"])
class TestDamage:
    def test_a_cut_file_is_refused(self, triple, machine):
        content = compiled(EVERYTHING, triple)
        for size in range(0, len(content), 7):
            with pytest.raises(ValueError, match="an object file cannot be loaded"):
                linked(content[:size], machine)

    def test_a_changed_byte_is_refused_or_linked_within_bounds(self, triple, machine):
        content = compiled(FAR + TWICE + "@counter = common global i64 0\n", triple)
        for at in range(len(content)):
            for change in (0xFF, 0x80, 1 << at % 7):
                changed = bytearray(content)
                changed[at] ^= change
                try:
                    plan = elf.ObjectLayout(bytes(changed), machine, 4096)
                    image, functions = plan.link(BASE, lambda name: 1 << 40)
                except ValueError as error:
                    assert str(error).startswith("an object file cannot be loaded: ")
                else:
                    assert len(image) <= plan.size <= elf.LARGEST + 4096
                    assert all(BASE <= address <= BASE + plan.constants for address in functions.values())

    def test_code_of_a_fixed_position_is_refused(self, triple, machine):
        source = "@outer = external dso_local global i64\ndefine i64 @read() {\n  %y = load i64, ptr @outer\n  ret i64 %y\n}\n"
        with pytest.raises(ValueError, match="uses 'outer', which it does not define, like position-dependent code"):
            linked(compiled(source, triple, "static"), machine, lambda name: BASE + 65536)  # though in reach by chance

    def test_what_kernels_do_not_have_is_refused(self, triple, machine):
        starts = (
            "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } "
            "{ i32 1, ptr @start, ptr null }]\ndefine void @start() {\n  ret void\n}\n"
        )
        own = "@own = thread_local global i64 3\n" + TWICE
        unknown = "the unknown type|is of type 6|with flags 0x"
        for source, message in (
            *((starts, unknown), (own, unknown)),
            ("@data = global i64 3\n", "cannot be loaded: it has no code"),
            ("@data = global i64 3, align 65536\n" + TWICE, "is aligned to 65536 bytes"),
            ("@data = global [9000000 x i64] zeroinitializer\n" + TWICE, "takes more than 67108864 bytes"),
        ):
            with pytest.raises(ValueError, match=message):
                linked(compiled(source, triple), machine)

    @pytest.mark.parametrize(
        ("name", "layout", "at", "value", "message"),
        [
            (".data", "<Q", 8, 0x7, "section .data would be writable and executable"),
            (".data", "<Q", 8, 0x403, "section .data is of kind 0x1 with flags"),  # of threads
            (".data", "<Q", 8, 0x803, "section .data is of kind 0x1 with flags"),  # compressed
            (".symtab", "<I", 4, 1, "it has 0 tables of symbols instead of one"),
            (".bss", "<I", 8, 2, "section .bss is without content and not writable"),
        ],
    )
    def test_sections_that_are_none_are_refused(self, triple, machine, name, layout, at, value, message):
        content = bytearray(compiled("@data = global i64 3\n@zeros = global i64 0\n" + TWICE, triple))
        file = elf.File(bytes(content))
        index = next(i for i in range(len(file.sections)) if file.section_name(i) == name)
        (table,) = struct.unpack_from("<Q", content, 40)
        struct.pack_into(layout, content, table + 64 * index + at, value)
        with pytest.raises(ValueError, match=message):
            linked(bytes(content), machine)

    def test_another_machine_is_refused(self, triple, machine):
        (other,) = {"x86_64", "aarch64"} - {machine}
        with pytest.raises(ValueError, match="it is for machine (62|183), and this one is"):
            linked(compiled(TWICE, triple), other)


@pytest.mark.parametrize(
    ("machine", "kind", "layout", "value"),
    [
        *(("x86_64", 1, "<Q", "absolute"), ("x86_64", 24, "<q", "distance"), ("x86_64", 2, "<i", "distance")),
        *(("x86_64", 10, "<I", None), ("x86_64", 11, "<i", None), ("aarch64", 257, "<Q", "absolute")),
        *(("aarch64", 260, "<q", "distance"), ("aarch64", 261, "<i", "distance")),
    ],
    ids="X86_64_64 X86_64_PC64 X86_64_PC32 X86_64_32 X86_64_32S AARCH64_ABS64 AARCH64_PREL64 AARCH64_PREL32".split(),
)
def test_relocations_of_numbers(machine, kind, layout, value):
    """Of all kinds: LLVM writes an address into data, whose kind is changed to the one that is tested."""
    source = "@pointer = global [2 x ptr] [ptr null, ptr @twice]\n" + TWICE
    content = bytearray(compiled(source, X86_64 if machine == "x86_64" else AARCH64))
    file = elf.File(bytes(content))
    (table,) = [
        section for section in file.sections if section.kind == 4 and file.section_name(section.info) == ".data"
    ]
    struct.pack_into("<I", content, table.offset + 8, kind)
    struct.pack_into("<q", content, table.offset + 16, 5)  # addend
    plan = elf.ObjectLayout(bytes(content), machine, 4096)
    if value is None:
        with pytest.raises(ValueError, match="'twice' is out of reach, or not aligned"):
            plan.link(BASE, resolve)
    base = BASE if value else 0x10000  # short addresses need a low one
    image, functions = plan.link(base, resolve)
    place = base + plan.data + 8
    expected = functions["twice"] + 5 - (place if value == "distance" else 0)
    assert struct.unpack_from(layout, image, plan.data + 8) == (expected,)


# -------------------- other systems --------------------


def test_the_fallback_is_chosen_where_objects_are_not_supported(monkeypatch):
    monkeypatch.setattr(objects, "is_supported", lambda: False)
    monkeypatch.setattr(objects, "_load_here", None)
    assert call(objects.load(compiled(TWICE), resolve)["twice"], 4) == 8


def test_names_in_an_object_of_macos():
    functions, undefined = objects._mach_o_names(compiled(EVERYTHING.replace("common", "internal"), MACOS))
    assert {"call_outside", "count", "choose"} <= set(functions)
    assert set(undefined) == {"outside", "exp", "outer"}
    with pytest.raises(ValueError, match="its table of symbols is damaged"):
        objects._mach_o_names(compiled(FAR, MACOS)[:-10])


def test_the_fallback_refuses_what_is_no_object():
    with pytest.raises(ValueError, match="it is not an ELF file of 64 bits"):
        objects.load_with_llvmlite(b"MZ" + bytes(100), resolve)
