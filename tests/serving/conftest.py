"""Runs the tests that are coroutines, each in an event loop of its own."""

import asyncio
import contextlib
import inspect

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A fixture that is an asynchronous context is entered before the test. An argument `loop` makes the event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            for value in arguments.values():
                if hasattr(value, "__aexit__"):
                    await stack.enter_async_context(value)
            await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=arguments.get("loop")) as runner:
        runner.run(run())
    return True
