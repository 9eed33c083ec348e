import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.storage.rate_limit import Closed, Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_many_complaints_at_once_halve_the_limit_once(clock):
    pace = Pace(16, clock=clock)
    for _ in range(16):
        pace.slow_down()
    assert pace.limit == 8
    clock.now += 1.0
    pace.slow_down()
    assert pace.limit == 4


def test_the_limit_never_falls_below_one(clock):
    pace = Pace(5, clock=clock)
    for _ in range(10):
        clock.now += 2.0
        pace.slow_down()
    assert pace.limit == 1
    with pace.turn():
        pass


def test_a_stretch_of_good_answers_adds_one_up_to_the_most(clock):
    pace = Pace(8, clock=clock)
    pace.slow_down()
    for answers, limit in ((3, 4), (1, 5), (4, 5), (1, 6), (5, 6), (1, 7), (7, 8), (100, 8)):
        clock.now += 1.0
        for _ in range(answers):
            pace.went_well()
        assert pace.limit == limit


def test_good_answers_between_complaints_add_nothing(clock):
    pace = Pace(8, clock=clock)
    pace.slow_down()
    clock.now += 0.9
    for _ in range(20):
        pace.went_well()
        pace.went_well()
        pace.slow_down()
    assert pace.limit == 4


def test_it_rises_a_few_steps_a_second_however_quick_the_answers(clock):
    pace = Pace(64, clock=clock)
    pace.slow_down()
    for _ in range(1000):
        clock.now += 0.001
        for _ in range(64):
            pace.went_well()
    assert 32 < pace.limit <= 36


@given(st.lists(st.sampled_from(["slow", "well", "second"]), max_size=200), st.integers(1, 20))
def test_whatever_happens_the_limit_stays_between_one_and_the_most(events, most):
    clock = Clock()
    pace = Pace(most, clock=clock)
    for event in events:
        if event == "second":
            clock.now += 1.0
        else:
            (pace.slow_down if event == "slow" else pace.went_well)()
        assert 1 <= pace.limit <= most


def test_no_more_turns_than_the_limit_are_under_way(clock):
    pace = Pace(8, clock=clock)
    pace.slow_down()
    clock.now += 1.0
    pace.slow_down()
    lock, under_way, most = threading.Lock(), 0, 0

    def work():
        nonlocal under_way, most
        for _ in range(50):
            with pace.turn():
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
    pace = Pace(2, clock=clock)
    pace.slow_down()
    through = threading.Event()

    def second():
        with pace.turn():
            through.set()

    with pace.turn():
        thread = threading.Thread(target=second)
        thread.start()
        assert not through.wait(0.1)
        clock.now += 1.0
        pace.went_well()
        assert through.wait(10)
    thread.join(10)


def test_a_turn_that_fails_is_given_back():
    pace = Pace(1)
    for _ in range(3):
        with pytest.raises(KeyError), pace.turn():
            raise KeyError
    with pace.turn():
        pass


def test_closing_sends_away_those_who_wait_and_those_who_come():
    pace = Pace(1)
    sent_away = threading.Event()

    def wait():
        try:
            with pace.turn():
                pass
        except Closed:
            sent_away.set()

    with pace.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        pace.close()
        assert sent_away.wait(10)
    thread.join(10)
    with pytest.raises(Closed), pace.turn():
        pass
