import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.storage.rate_limit import Closed, ConcurrencyLimiter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_many_complaints_at_once_halve_the_limit_once(clock):
    limiter = ConcurrencyLimiter(16, clock=clock)
    for _ in range(16):
        limiter.on_throttle()
    assert limiter.limit == 8
    clock.now += 1.0
    limiter.on_throttle()
    assert limiter.limit == 4


def test_the_limit_never_falls_below_one(clock):
    limiter = ConcurrencyLimiter(5, clock=clock)
    for _ in range(10):
        clock.now += 2.0
        limiter.on_throttle()
    assert limiter.limit == 1
    with limiter.acquire():
        pass


def test_a_stretch_of_good_answers_adds_one_up_to_the_most(clock):
    limiter = ConcurrencyLimiter(8, clock=clock)
    limiter.on_throttle()
    for answers, limit in ((3, 4), (1, 5), (4, 5), (1, 6), (5, 6), (1, 7), (7, 8), (100, 8)):
        clock.now += 1.0
        for _ in range(answers):
            limiter.on_success()
        assert limiter.limit == limit


def test_good_answers_between_complaints_add_nothing(clock):
    limiter = ConcurrencyLimiter(8, clock=clock)
    limiter.on_throttle()
    clock.now += 0.9
    for _ in range(20):
        limiter.on_success()
        limiter.on_success()
        limiter.on_throttle()
    assert limiter.limit == 4


def test_it_rises_a_few_steps_a_second_however_quick_the_answers(clock):
    limiter = ConcurrencyLimiter(64, clock=clock)
    limiter.on_throttle()
    for _ in range(1000):
        clock.now += 0.001
        for _ in range(64):
            limiter.on_success()
    assert 32 < limiter.limit <= 36


@given(st.lists(st.sampled_from(["slow", "well", "second"]), max_size=200), st.integers(1, 20))
def test_whatever_happens_the_limit_stays_between_one_and_the_most(events, most):
    clock = Clock()
    limiter = ConcurrencyLimiter(most, clock=clock)
    for event in events:
        if event == "second":
            clock.now += 1.0
        else:
            (limiter.on_throttle if event == "slow" else limiter.on_success)()
        assert 1 <= limiter.limit <= most


def test_no_more_turns_than_the_limit_are_under_way(clock):
    limiter = ConcurrencyLimiter(8, clock=clock)
    limiter.on_throttle()
    clock.now += 1.0
    limiter.on_throttle()
    lock, under_way, most = threading.Lock(), 0, 0

    def work():
        nonlocal under_way, most
        for _ in range(50):
            with limiter.acquire():
                with lock:
                    under_way += 1
                    most = max(most, under_way)
                threading.Event().wait(0.0005)
                with lock:
                    under_way -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 2


def test_a_raised_limit_lets_a_waiting_thread_go(clock):
    limiter = ConcurrencyLimiter(2, clock=clock)
    limiter.on_throttle()
    through = threading.Event()

    def second():
        with limiter.acquire():
            through.set()

    with limiter.acquire():
        thread = threading.Thread(target=second)
        thread.start()
        assert not through.wait(0.1)
        clock.now += 1.0
        limiter.on_success()
        assert through.wait(10)
    thread.join(10)


def test_a_turn_that_fails_is_given_back():
    limiter = ConcurrencyLimiter(1)
    for _ in range(3):
        with pytest.raises(KeyError), limiter.acquire():
            raise KeyError
    with limiter.acquire():
        pass


def test_closing_sends_away_those_who_wait_and_those_who_come():
    limiter = ConcurrencyLimiter(1)
    sent_away = threading.Event()

    def wait():
        try:
            with limiter.acquire():
                pass
        except Closed:
            sent_away.set()

    with limiter.acquire():
        thread = threading.Thread(target=wait)
        thread.start()
        limiter.close()
        assert sent_away.wait(10)
    thread.join(10)
    with pytest.raises(Closed), limiter.acquire():
        pass
