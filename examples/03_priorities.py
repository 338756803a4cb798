"""Priorities and backpressure: what is urgent goes first, and nobody's mailbox grows without bound.

Run: python examples/03_priorities.py
"""

import anyio

from actors import Actor, ActorSystem, MailboxFull, Message, Overflow, Priority, handles, run


class Page(Message[None]):
    text: str


class Printer(Actor):
    def __init__(self, printed: list[str]) -> None:
        self.printed = printed

    @handles(Page)
    async def print_page(self, page: Page) -> None:
        await anyio.sleep(0.005)
        self.printed.append(page.text)


async def main() -> None:
    async with ActorSystem("priorities") as system:
        # Each priority is a lane of its own, first in, first out.
        printed: list[str] = []
        printer = await system.spawn(Printer, printed)
        await printer.tell(Page("archive"), priority=Priority.LOW)
        await printer.tell(Page("letter 1"))
        await printer.tell(Page("letter 2"))
        await printer.tell(Page("fire alarm"), priority=Priority.URGENT)
        await printer.stop()  # handles what is queued, then stops
        print("by priority:", ", ".join(printed))

        # A full mailbox makes the sender wait: it goes no faster than the printer.
        printed = []
        printer = await system.spawn(Printer, printed, capacity=2)
        ahead = 0
        for number in range(10):
            await printer.tell(Page(str(number)))
            ahead = max(ahead, number + 1 - len(printed))
        print(f"never more than {ahead} pages ahead: 2 in the mailbox, 1 in the printer")

        # Unless it is told to refuse ...
        printer = await system.spawn(Printer, [], capacity=2, overflow=Overflow.REJECT)
        try:
            for number in range(10):
                await printer.tell(Page(str(number)))
        except MailboxFull as error:
            print(f"page {number} refused: {error.depth} are waiting")

        # ... or to drop: good for readings of which only the latest count. What is dropped is a dead letter.
        printed = []
        printer = await system.spawn(Printer, printed, capacity=2, overflow=Overflow.DROP_OLDEST)
        for number in range(5):
            await printer.tell(Page(str(number)))
        await printer.stop()
        print("the latest:", ", ".join(printed), "and", system.dead_letters["dropped"], "dropped")

        # A message may have a time to live. The receipt says what became of it.
        printer = await system.spawn(Printer, printed)
        await printer.tell(Page("a long one"))
        receipt = await printer.tell(Page("the lunch menu"), ttl=0.001, receipt=True)
        print("the lunch menu:", (await receipt.wait(timeout=1.0)).fate)


if __name__ == "__main__":
    run(main)
