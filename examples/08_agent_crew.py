"""A crew of agents: an editor, a critic and three researchers share one language model, which limits their rate.

The model is a fake that computes its answers: it picks the sentence whose words come up most. Like a real one it
refuses calls over its rate, and now and then it answers nothing at all: the researcher who got that crashes, its
supervisor starts a fresh one, and the same message is tried again. The editor notices neither; the log does.

Run: python examples/08_agent_crew.py
"""

import re
from collections import Counter

import anyio

from actors import Actor, ActorRef, ActorSystem, Message, Refusal, handles, run

ARTICLE = """\
Actors were invented in 1973. Hewitt, Bishop and Steiger wanted a model of programs that learn. In it everything is
an actor, and actors do nothing but send messages to other actors.

Erlang came in 1986. The engineers of telephone exchanges wanted programs that go on after errors, so they let what
has failed crash and had supervisors restart it. Programs that let errors crash had fewer errors.

Agents are the latest to need this. An agent calls models that are slow, refuse calls, or answer nonsense. Agents
that share models need limits, and agents need somebody to restart the agents that crash.
"""


class Summarize(Message[str]):
    """The sentence of `text` that says most; none where the model has a bad day."""

    text: str


class Remark(Message[str]):
    """What the critic says about a summary; nothing where it is good."""

    summary: str


class Publish(Message[list[str]]):
    article: str


class Refill(Message[None]):
    pass


class Busy(Refusal):
    """Over the rate: the model's answer "no". The model goes on, and so does who asked."""


class Model(Actor):
    """At most `burst` calls at once and `rate` a second on average."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.allowed, self.calls = burst, 0

    async def on_start(self) -> None:
        self.every(1 / self.rate, Refill())

    @handles(Refill)
    def refill(self, _: Refill) -> None:
        self.allowed = min(self.burst, self.allowed + 1)

    @handles(Summarize, concurrency=8)  # up to eight calls share this actor while they wait
    async def summarize(self, message: Summarize) -> str:
        if not self.allowed:
            raise Busy
        self.allowed -= 1
        self.calls += 1
        bad_day = self.calls == 2
        await anyio.sleep(0.005)
        counts = Counter(re.findall(r"\w{4,}", message.text.lower()))
        sentences = re.findall(r"[^.]+\.", " ".join(message.text.split()))
        return "" if bad_day else max(sentences, key=lambda s: sum(counts[w] for w in s.lower().split())).strip()


class Researcher(Actor):
    def __init__(self, model: ActorRef[Model]) -> None:
        self.model = model

    @handles(Summarize, attempts=3)
    async def summarize(self, message: Summarize) -> str:
        while True:
            try:
                summary = await self.model.ask(message, timeout=10.0)
            except Busy:
                await anyio.sleep(0.01)
                continue
            if not summary:
                raise ValueError("the model answered nothing")
            return summary


class Critic(Actor):
    @handles(Remark)
    def remark(self, message: Remark) -> str:
        words = len(message.summary.split())
        return f"{words} words, cut at the comma" if words > 15 and "," in message.summary else ""


class Editor(Actor):
    def __init__(self, model: ActorRef[Model]) -> None:
        self.model = model

    async def on_start(self) -> None:
        # Its own children: they end with it, and their failures are its to decide on.
        self.researchers = await self.pool(Researcher, self.model, size=3, name="researchers")
        self.critic = await self.spawn(Critic, name="critic")

    @handles(Publish)
    async def publish(self, message: Publish) -> list[str]:
        sections = message.article.strip().split("\n\n")
        summaries = [""] * len(sections)

        async def summarize(number: int) -> None:
            summary = await self.researchers.ask(Summarize(text=sections[number]), timeout=10.0)
            while remark := await self.critic.ask(Remark(summary=summary)):
                print(f"critic: section {number + 1} has {remark}")
                summary = summary.rpartition(",")[0] + "."
            summaries[number] = summary

        async with anyio.create_task_group() as everybody:
            for number in range(len(sections)):
                everybody.start_soon(summarize, number)
        return summaries


async def main() -> None:
    async with ActorSystem("crew") as system:
        model = await system.spawn(Model, rate=50.0, burst=2, name="model")
        editor = await system.spawn(Editor, model, name="editor")
        for summary in await editor.ask(Publish(article=ARTICLE), timeout=10.0):
            print("-", summary)


if __name__ == "__main__":
    run(main)
