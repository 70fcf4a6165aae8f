"""A call that was not awaited says so, and is a coroutine for all that wants one."""

import asyncio
import gc
import inspect
import warnings

import pytest

import ipychat
from ipychat.chat.waiting import call


@call
async def double(number: int) -> int:
    """Return twice as much."""
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError(number)
    return 2 * number


async def in_a_group(coroutine):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(coroutine)
    return task.result()


async def gathered(coroutine):
    [result] = await asyncio.gather(coroutine)
    return result


async def awaited(coroutine):
    return await coroutine


async def as_a_task(coroutine):
    return await asyncio.create_task(coroutine)


async def in_time(coroutine):
    return await asyncio.wait_for(coroutine, 5)


WAYS = [awaited, as_a_task, in_a_group, gathered, in_time]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_awaited_like_any_coroutine(way):
    assert asyncio.run(way(double(2))) == 4
    with pytest.raises((ValueError, ExceptionGroup)):
        asyncio.run(way(double(-1)))


def test_a_call_can_be_run_by_itself():
    assert asyncio.run(double(4)) == 8
    with asyncio.Runner() as runner:
        assert runner.run(double(5)) == 10


def test_a_call_that_is_a_task_can_be_cancelled_and_shown():
    async def main():
        task = asyncio.create_task(double(1))
        assert "double" in repr(task)
        task.get_stack()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_call_is_awaited_once():
    async def main():
        once = double(1)
        await once
        await once

    with pytest.raises(RuntimeError, match="reuse"):
        asyncio.run(main())


def test_a_call_that_is_shown_says_that_nothing_was_asked_and_is_quiet_ever_after():
    gc.freeze()  # what is collected here is this test's own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forgotten = ipychat.ask("x")
        assert repr(forgotten) == "Nothing was asked yet: write await before ask(…)."
        closed = double(1)
        closed.close()
        del forgotten, closed
        gc.collect()
    gc.unfreeze()


def test_a_call_that_nobody_sees_warns():
    with pytest.warns(RuntimeWarning, match=r"ask\(…\) was never awaited, so nothing was asked"):
        ipychat.ask("x")  # it is gone as soon as it is made


def test_a_call_keeps_what_its_function_says_of_itself():
    assert double.__name__ == "double"
    assert double.__doc__ == "Return twice as much."
    assert [*inspect.signature(ipychat.ask).parameters] == [
        *("prompt", "model", "chat", "system", "options")
    ]
    one = double(0)
    assert asyncio.iscoroutine(one)
    one.close()
