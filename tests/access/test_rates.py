"""Limits of requests hold for all server processes together, and for each alone without Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rowcast.access import rates
from rowcast.access.rates import Policy, RateLimiter
from tests.support.redis_server import RedisServer

N_PROCESSES = 4


def limiters(connection: redis.Redis, n: int = N_PROCESSES) -> list[RateLimiter]:
    """Return what each of some processes counts with."""
    return [RateLimiter(connection, N_PROCESSES) for _ in range(n)]


def n_let_in(limiter: RateLimiter, policy: Policy, n_requests: int = 10_000) -> int:
    """Return how many of the requests of one caller are let in, up to the first refusal."""
    hits = (limiter.hit(policy, "ann") for _ in range(n_requests))
    numbers = (
        number for number, hit in zip(count(), hits, strict=False) if hit.is_over
    )
    return next(numbers, n_requests)


@pytest.mark.parametrize("limit", [1, 7, 60, 3_000])
def test_one_process_lets_in_exactly_the_limit(
    connection: redis.Redis, limit: int
) -> None:
    limiter = limiters(connection)[0]
    assert n_let_in(limiter, Policy("key", limit)) == limit
    assert limiter.hit(Policy("key", limit), "bob").is_over is False


@pytest.mark.parametrize("limit", [7, 3_000])
def test_all_processes_together_let_in_the_limit(
    connection: redis.Redis, limit: int
) -> None:
    policy = Policy("key", limit)
    with ThreadPoolExecutor(N_PROCESSES) as pool:
        found = pool.map(lambda each: n_let_in(each, policy), limiters(connection))
    assert sum(found) == limit


def test_threads_of_a_process_let_in_exactly_the_limit(
    connection: redis.Redis,
) -> None:
    limiter, policy = limiters(connection)[0], Policy("key", 3_000)
    with ThreadPoolExecutor(32) as pool:
        hits = list(pool.map(lambda _: limiter.hit(policy, "ann"), range(4_000)))
    assert sum(not hit.is_over for hit in hits) == 3_000


def test_redis_is_rarely_asked(connection: redis.Redis) -> None:
    limiter, policy = limiters(connection)[0], Policy("key", 8_000)
    limiter.hit(policy, "ann")
    connection.config_resetstat()
    for _ in range(1_000):
        limiter.hit(policy, "ann")
    # A hundredth of the limit is taken at a time, by two calls.
    assert connection.info("commandstats")["cmdstat_evalsha"]["calls"] <= 22


def test_who_is_refused_costs_redis_nothing(connection: redis.Redis) -> None:
    limiter, policy = limiters(connection)[0], Policy("key", 5)
    n_let_in(limiter, policy)
    connection.config_resetstat()
    refusals = [limiter.hit(policy, "ann") for _ in range(1_000)]
    assert {(each.is_over, each.remaining) for each in refusals} == {(True, 0)}
    assert all(1 <= each.reset_s <= rates.WINDOW_S for each in refusals)
    assert "cmdstat_evalsha" not in connection.info("commandstats")


def test_standing_says_what_is_left(connection: redis.Redis) -> None:
    limiter, policy = limiters(connection)[0], Policy("key", 800)
    standings = [limiter.hit(policy, "ann") for _ in range(100)]
    assert [each.remaining for each in standings] == list(range(799, 699, -1))


def test_without_redis_a_process_counts_for_itself(redis_server: RedisServer) -> None:
    nowhere = redis.Redis(
        unix_socket_path=f"{redis_server.socket}-none", retry=Retry(NoBackoff(), 0)
    )
    for limiter in limiters(nowhere, 2):
        assert n_let_in(limiter, Policy("key", 300)) == 300
