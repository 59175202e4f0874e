"""A look at Redis for `xinyu doctor`: nothing is written."""

from __future__ import annotations

import asyncio

from core.errors import StoreUnavailable


async def redis_version(url: str, seconds: float) -> str:
    """Redis's version, or "" where it answers and its version is not ours to see.

    Raises StoreUnavailable with a fixed word: bad_url, refused_login, unreachable.
    """
    from redis.asyncio import Redis
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

    try:
        redis = Redis.from_url(url)
    except ValueError:
        raise StoreUnavailable("bad_url") from None
    try:
        async with asyncio.timeout(seconds):
            await redis.ping()
            try:
                info = await redis.info("server")
            except NoPermissionError:
                return ""
    except (AuthenticationError, NoPermissionError):
        raise StoreUnavailable("refused_login") from None
    except ResponseError as error:  # an old server's "NOAUTH", or a database number that is not there
        raise StoreUnavailable("refused_login" if "NOAUTH" in str(error) else "bad_url") from None
    except (RedisError, OSError, TimeoutError):
        raise StoreUnavailable("unreachable") from None
    finally:
        await redis.aclose()
    return str(info.get("redis_version", ""))
