"""Pools: several actors behind one address, and a rule for which of them gets a message.

Counts the words of this very file: the lines go to whichever reader has least to do, each word always to the same
counter, so that no two of them hold the same word.

Run: python examples/04_pools.py
"""

from collections import Counter

import anyio

from actors import Actor, ActorRef, ActorSystem, Message, handles, run
from actors.pool import consistent_hash, least_loaded


class Line(Message[int]):
    """The reply is the number of words."""

    text: str


class Word(Message[None]):
    word: str


class Tally(Message[dict[str, int]]):
    pass


class WordCounter(Actor):
    def __init__(self) -> None:
        self.counts = Counter[str]()

    @handles(Word)
    def count(self, message: Word) -> None:  # a handler that never waits may be a plain def
        self.counts[message.word] += 1

    @handles(Tally)
    def tally(self, _: Tally) -> dict[str, int]:
        return self.counts


class LineReader(Actor):
    def __init__(self, counters: ActorRef[WordCounter]) -> None:
        self.counters = counters

    @handles(Line)
    async def read(self, line: Line) -> int:
        words = line.text.split()
        for word in words:
            await self.counters.tell(Word(word))
        return len(words)


async def main() -> None:
    text = await anyio.Path(__file__).read_text(encoding="utf-8")
    async with ActorSystem("pools") as system:
        by_word = consistent_hash(lambda message: message.word)
        counters = await system.pool(WordCounter, size=4, routing=by_word, name="counters")
        readers = await system.pool(LineReader, counters, size=3, routing=least_loaded, name="readers")

        words = sum([await readers.ask(Line(text=line)) for line in text.splitlines()])

        # The pool is an address like any other, and so is each of its workers.
        workers = [system.ref(f"/counters/{number}", WordCounter) for number in (1, 2, 3, 4)]
        tallies = await system.ask_all(workers, Tally(), timeout=1.0)

    total = Counter[str]()
    for address, tally in tallies.items():
        assert isinstance(tally, dict)  # or the error of that one
        print(f"{address} has counted {len(tally)} different words")
        total.update(tally)
    print(f"{words} words, {len(total)} different, most often {total.most_common(1)[0]}")
    print("the same as counted in one go:", total == Counter(text.split()))


if __name__ == "__main__":
    run(main)
