"""`views.verify` and `views.rebuild`: whether the views say what the log says, and building them anew. Both need operator.admin.

They change nothing that is true: views are a copy, and decisions never rest on them.
"""

from msgspec import Struct

from .authority import ADMIN
from .listing import Difference
from .service import Call, Method
from .shapes import NoParams


class Verified(Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `views.verify`: at which position the views were compared, and every table that differs."""

    position: int
    differences: tuple[Difference, ...]


class Rebuilt(Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `views.rebuild`: the position that the new views have reached."""

    position: int


async def views_verify(call: Call[NoParams]) -> Verified:
    """Build the views anew beside those in use and compare every row."""
    position, differences = await call.service.views.verify()
    return Verified(position=position, differences=differences)


async def views_rebuild(call: Call[NoParams]) -> Rebuilt:
    """Drop the views and build them from the log."""
    return Rebuilt(position=await call.service.views.rebuild())


METHODS = (
    Method("views.verify", NoParams, views_verify, ADMIN, waits=True),
    Method("views.rebuild", NoParams, views_rebuild, ADMIN, waits=True),
)
