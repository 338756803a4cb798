"""The actors of `node.toml`: customers write, clerks answer, each customer's letters in their order by one clerk.

Run: python -m actors.node examples/node.toml
"""

import structlog

from actors import Actor, Message, handles

log = structlog.get_logger()


class Letter(Message[None]):
    """A customer has written."""

    customer: str
    text: str


class Write(Message[None]):
    """Time to write the next letter."""


class Clerk(Actor):
    """Answers letters. Somebody who is rude is too much for a clerk, and the next one begins anew."""

    @handles(Letter)
    async def answer(self, letter: Letter) -> None:
        if "!" in letter.text:
            raise ValueError(f"{letter.customer} was rude")
        log.info("answered", clerk=self.ref.address, customer=letter.customer)


class Customers(Actor):
    """Write a letter in turn every `every` seconds, `letters` in all, and then have finished."""

    def __init__(
        self, names: list[str], letters: int = 10, *, every: float = 0.2, desk: str = "/office/clerks"
    ) -> None:
        self.names, self.left, self.pause, self.desk = names, letters, every, desk

    async def on_start(self) -> None:
        self.every(self.pause, Write())

    @handles(Write)
    async def write(self, _: Write) -> None:
        self.left -= 1
        customer = self.names[self.left % len(self.names)]
        text = "Where is it?" if self.left % 4 else "Where is it!"
        await self.system.ref(self.desk, Clerk).tell(Letter(customer=customer, text=text))
        if self.left <= 0:
            self.stop()
