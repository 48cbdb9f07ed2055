"""Object files for a linker, and which processors code is made for."""

import os
import subprocess
import sys

import pytest

from nbkeras.export import elf_objects, library_rows
from nbkeras.kernels.interpreter import emitter
from nbkeras.kernels.runtime import cache, code, elf, objects, processor, wasm_objects


@pytest.mark.parametrize("machine", [*elf.MACHINES, "riscv64"])
@pytest.mark.parametrize("content", [b"abc", b"", bytes(range(256)) * 5], ids=["3 bytes", "none", "1280 bytes"])
def test_an_object_with_data(machine, content):
    made = elf_objects.of_data(machine, "numbers", content)
    file = elf.File(made)
    assert file.machine == (243 if machine == "riscv64" else elf.code_of(machine))
    assert [file.section_name(i) for i in range(6)] == ["", ".rodata", ".symtab", ".strtab", "", ".note.GNU-stack"]
    assert file.bytes_of(1) == content
    assert file.sections[1].alignment == 64
    assert file.sections[1].offset % 64 == 0
    assert file.symbol_name(1) == "numbers"
    symbol = file.symbols[1]
    assert (symbol.section, symbol.value, symbol.size, symbol.other) == (1, 0, len(content), 2)


def test_symbols_are_renamed_and_hidden():
    content = code.object_of(emitter.SYMBOL)
    made = elf_objects.hidden(content, {emitter.SYMBOL: "another_name_that_is_longer", "absent": "x"})
    before, after = elf.File(content), elf.File(made)
    assert list(after.functions()) == ["another_name_that_is_longer"]
    assert after.undefined() == before.undefined()
    (index,) = after.functions().values()
    assert after.symbols[index].other & 3 == 2
    assert after.symbols[index]._replace(name=0, other=0) == before.symbols[index]._replace(name=0, other=0)
    assert len(objects.load(made, code._address_of)) == 1
    assert elf_objects.hidden(made, {}) != content


@pytest.mark.process
def test_objects_of_webassembly():
    (content,) = library_rows.made([emitter.SYMBOL], "wasm32")
    assert objects.undefined(content) == []
    assert wasm_objects.names(content) == ([emitter.SYMBOL], [])
    other = "another_name_that_is_longer"
    made = wasm_objects.hidden(content, {emitter.SYMBOL: other, "absent": "x"})
    assert wasm_objects.names(made) == ([other], [])
    assert wasm_objects.hidden(made, {other: emitter.SYMBOL}) == wasm_objects.hidden(content, {})
    for end in range(8, len(content), 997):
        try:
            assert set(wasm_objects.names(content[:end])[0]) <= {emitter.SYMBOL}
        except ValueError as error:
            assert "an object file cannot be read: it is cut off" in str(error)
    with pytest.raises(ValueError, match="it is not WebAssembly"):
        wasm_objects.names(b"abc")


@pytest.mark.parametrize("content", [b"abc", b"", bytes(range(256)) * 5], ids=["3 bytes", "none", "1280 bytes"])
def test_an_object_of_webassembly_with_data(content):
    made = wasm_objects.of_data("numbers", content)
    assert content in made
    assert wasm_objects.names(made) == ([], [])
    renamed = wasm_objects.hidden(made, {"numbers": "other"})
    assert wasm_objects.hidden(renamed, {"other": "numbers"}) == made != renamed


@pytest.mark.process
def test_targets():
    assert set(processor.LEVELS) < set(processor.TARGETS)
    assert [processor.machine_of(target) for target in ("x86-64-v3", "aarch64")] == ["x86_64", "aarch64"]
    script = (
        "from nbkeras.kernels.runtime import processor; from nbkeras.kernels.loops import gemm; "
        "print(processor.has('avx'), processor.has('neon'), processor.foreign_triple(), gemm._BYTES, processor.key())"
    )
    told = {}
    for target in processor.TARGETS:
        environment = os.environ | processor.variables_of(target) | {"PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-c", script]
        told[target] = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    other = processor.triple_of("x86_64") if processor.variables_of("x86-64-v3")["NBKERAS_MACHINE"] else ""
    assert told["x86-64-v3"] == f"True False {other} 32 x86-64-v3\n"
    assert told["x86-64-v4"] == f"True False {other} 64 x86-64-v4\n"
    assert told["aarch64"].startswith("False True aarch64-unknown-linux-gnu 16 aarch64-unknown-linux-gnu ")
    assert told["riscv64"].startswith("False False riscv64-unknown-linux-gnu 16 riscv64-unknown-linux-gnu ")
    assert told["wasm32"].startswith("False False wasm32-unknown-unknown 16 wasm32-unknown-unknown ")


def test_levels_of_another_kind_of_machine(monkeypatch):
    """An aarch64 machine that compiles for x86-64-v3 must not make objects for itself."""
    for machine, other in (("x86_64", ""), ("AMD64", ""), ("aarch64", "x86_64"), ("arm64", "x86_64")):
        monkeypatch.setattr(processor.platform, "machine", lambda machine=machine: machine)
        assert processor.variables_of("x86-64-v3")["NBKERAS_MACHINE"] == other
        assert processor.variables_of("aarch64")["NBKERAS_MACHINE"] == "aarch64"
    monkeypatch.setenv("NBKERAS_MACHINE", "x86_64")
    assert processor.foreign_triple() == "x86_64-unknown-linux-gnu"


@pytest.mark.process
def test_another_machine_has_objects_of_its_own_in_the_cache():
    host = library_rows.made([emitter.SYMBOL], "")
    for target, machine in (("aarch64", "aarch64"), ("x86-64-v3", "x86_64")):
        first, again = (library_rows.made([emitter.SYMBOL], target) for _ in range(2))
        assert first == again != host
        assert elf.File(first[0]).machine == elf.code_of(machine)
    assert library_rows.made([emitter.SYMBOL], "") == host


def test_a_child_that_fails_is_quoted(monkeypatch):
    monkeypatch.setattr(library_rows.processor, "variables_of", lambda target: {"PYTHONHOME": "/nowhere"})
    with pytest.raises(RuntimeError, match="kernels could not be compiled for aarch64:\n"):
        library_rows.made([emitter.SYMBOL], "aarch64")


def test_a_kernel_of_a_function_cannot_be_compiled_by_a_child():
    @cache.compiled
    def local(x):
        x[0] = 1

    with pytest.raises(
        library_rows.Unavailable,
        match="'local' .* cannot be compiled for another processor, because the compiling process",
    ):
        library_rows.made([(local, ())], "aarch64")
