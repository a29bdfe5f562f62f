#!/usr/bin/env python3
"""A TCP proxy between the engine and a broker (or a database) that makes faults on command.

  proxy.py --link kafka=0:127.0.0.1:19092 [--link …] [--control PORT]

A link is NAME=LISTEN_PORT:HOST:PORT (listen port 0: any; `raw+` before the name: no Kafka in it). The first line on
standard output says where it listens: {"control": PORT, "links": {"kafka": PORT}}. Standard input closed: it ends.

Clients learn a broker's address from the cluster, so the proxy writes its own ports into what brokers say of
themselves (Metadata, FindCoordinator, DescribeCluster, Produce: there a host is always followed by its port). For
that every broker needs a link, and its advertised host must be the one of the link. Over TLS it cannot: then give the
broker a listener of its own and advertise the proxy there (`listeners=…,PROXIED://127.0.0.1:P`,
`advertised.listeners=…,PROXIED://127.0.0.1:PROXY_PORT`, `listener.security.protocol.map=…,PROXIED:SSL`) and use `raw+`.

Commands are JSON objects, one a line, on the control port; each is answered by one line. `link` names a link, all
unless given; `way` is "up" (to the broker), "down" or "both".

  {"do": "latency", "ms": 200, "jitter_ms": 50, "way": "both"}   later, in order
  {"do": "reset"}                              RST on all connections
  {"do": "close"} / {"do": "open"}             connections end and new ones are refused / accepted again
  {"do": "stall", "way": "up"}                 one-way cut: nothing passes, nothing is lost: it passes after `heal`
  {"do": "swallow", "way": "down"}             half-open: bytes are lost silently; `heal` resets who lost some
  {"do": "hold", "api_key": 26, "contains": "annals.arbiter.3", "count": 1, "cut": true}
                                               keeps matching requests (EndTxn is 26) and all behind them on their
                                               connection; `cut`: the client's connection is reset meanwhile, the one
                                               to the broker stays
  {"do": "held"}                               what is held, or was: id, api_key, released, response error
  {"do": "release", "id": 0, "wait_s": 10}     sends it on, all without `id`, and waits for the broker's answer
  {"do": "heal"}                               no latency, stall, swallow and hold any more; open
  {"do": "stats"}                              connections, bytes, requests by api key
"""

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys

WAYS = {"up": ("up",), "down": ("down",), "both": ("up", "down")}
SPEAKS_OF_BROKERS = (0, 3, 10, 60)  # Produce, Metadata, FindCoordinator, DescribeCluster
END_TXN = 26
FRAME_MAX = 200 << 20


class Held:
    """A request that is kept back."""

    def __init__(self, number, link, api_key, version, correlation):
        self.number, self.link, self.api_key, self.version, self.correlation = number, link, api_key, version, correlation
        self.go, self.answered, self.error, self.lost = asyncio.Event(), asyncio.Event(), None, False

    def told(self):
        """As a command's answer shows it."""
        shown = {"id": self.number, "link": self.link, "api_key": self.api_key, "version": self.version}
        return shown | {"released": self.go.is_set(), "answered": self.answered.is_set(), "error": self.error, "lost": self.lost}

    def answer(self, frame):
        """Reads the error code of an EndTxn response; of others only that there was one."""
        if self.api_key == END_TXN:
            at = 4 + 4 + (1 if self.version >= 3 else 0) + 4
            self.error = struct.unpack_from(">h", frame, at)[0]
        self.answered.set()


class Connection:
    """One client, and its connection to the broker."""

    def __init__(self, link, client, broker):
        self.link, self.client, self.broker = link, client, broker
        self.asked, self.held, self.lost, self.client_gone = {}, {}, False, False

    async def run(self):
        """Until one side ends; a held request outlives its client, and its answer is waited for."""
        tasks = [asyncio.create_task(self.pump("up")), asyncio.create_task(self.pump("down"))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while tasks[0].done() and not tasks[1].done() and self.waits_for_broker():
            await asyncio.wait(tasks, timeout=0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for held in self.held.values():
            held.lost = held.lost or not held.answered.is_set()
            held.answered.set()
        self.end()

    def waits_for_broker(self):
        """Whether a held request has no answer yet."""
        return any(not held.answered.is_set() for held in self.held.values())

    async def pump(self, way):
        """Carries bytes one way, through whatever faults there are."""
        source, target = (self.client[0], self.broker[1]) if way == "up" else (self.broker[0], self.client[1])
        queue, clock = asyncio.Queue(1000), asyncio.get_running_loop()
        reading = asyncio.create_task(self.take(way, source, queue))
        try:
            while True:
                due, piece = await queue.get()
                await asyncio.sleep(max(0, due - clock.time()))
                if not piece:
                    return
                await self.carry(way, piece, target)
        except OSError:
            return
        finally:
            reading.cancel()

    async def take(self, way, source, queue):
        """Reads ahead, so that a latency delays each piece and not the row of them."""
        clock, piece = asyncio.get_running_loop(), b"?"
        while piece:
            try:
                piece = await (source.read(65536) if self.link.raw else read_frame(source))
            except (OSError, asyncio.IncompleteReadError):
                piece = b""
            delay = self.link.latency[way]
            await queue.put((clock.time() + (delay() if delay else 0), piece))

    async def carry(self, way, piece, target):
        """One frame, or some bytes."""
        link = self.link
        if not link.raw:
            piece = await self.request(piece) if way == "up" else self.response(piece)
        await link.flows[way].wait()
        if link.swallows[way]:
            self.lost = True
            return
        link.bytes[way] += len(piece)
        if way == "down" and self.client_gone:
            return
        target.write(piece)
        await target.drain()

    async def request(self, frame):
        """Remembers what was asked, and keeps it back where it is to be held."""
        api_key, version, correlation = struct.unpack_from(">hhi", frame, 4)
        self.asked[correlation] = api_key
        self.link.requests[api_key] = self.link.requests.get(api_key, 0) + 1
        hold = next((hold for hold in self.link.holds if hold.matches(api_key, frame)), None)
        if hold is not None:
            hold.left -= 1
            held = Held(len(self.link.proxy.held), self.link.name, api_key, version, correlation)
            self.link.proxy.held.append(held)
            self.held[correlation] = held
            if hold.cut:
                self.client_gone = True
                reset(self.client[1])
            await held.go.wait()
        return frame

    def response(self, frame):
        """Writes our ports over the brokers', and notes the answer to what was held."""
        correlation = struct.unpack_from(">i", frame, 4)[0]
        api_key = self.asked.pop(correlation, None)
        if correlation in self.held:
            self.held[correlation].answer(frame)
        return self.link.proxy.ours(frame) if api_key in SPEAKS_OF_BROKERS else frame

    def end(self):
        """Closes both sides."""
        for _, writer in (self.client, self.broker):
            writer.close()

    def reset(self):
        """RST on both sides."""
        for _, writer in (self.client, self.broker):
            reset(writer)


async def read_frame(reader):
    """A length and so many bytes; empty at the end."""
    head = await reader.read(4)
    if not head:
        return b""
    head += await reader.readexactly(4 - len(head))
    length = struct.unpack(">i", head)[0]
    if not 0 <= length <= FRAME_MAX:
        raise OSError(f"a frame of {length} bytes: this is no Kafka, use raw+")
    return head + await reader.readexactly(length)


def reset(writer):
    """Ends a connection with RST, and without what is in its buffers."""
    found = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Hold:
    """Which requests are to be held."""

    def __init__(self, command):
        self.api_key, self.text = command.get("api_key", END_TXN), command.get("contains", "").encode()
        self.left, self.cut = command.get("count", 1), command.get("cut", False)

    def matches(self, api_key, frame):
        """Whether it is one of them."""
        return self.left > 0 and api_key == self.api_key and self.text in frame


class Link:
    """One listening port and where it leads."""

    def __init__(self, proxy, name, listen, host, port):
        self.proxy, self.raw, self.name = proxy, name.startswith("raw+"), name.removeprefix("raw+")
        self.listen, self.host, self.port, self.server = listen, host, port, None
        self.connections, self.requests, self.bytes, self.opened = set(), {}, {"up": 0, "down": 0}, 0
        self.flows = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.calm()

    def calm(self):
        """No fault at all."""
        self.latency, self.swallows, self.holds = {"up": None, "down": None}, {"up": False, "down": False}, []
        for flow in self.flows.values():
            flow.set()

    async def open(self):
        """Accepts connections."""
        if self.server is None:
            self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.listen)
            self.listen = self.server.sockets[0].getsockname()[1]

    def close(self):
        """Ends connections, and refuses new ones."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for connection in list(self.connections):
            connection.reset()

    async def accept(self, reader, writer):
        """A client came."""
        try:
            broker = await asyncio.open_connection(self.host, self.port)
        except OSError:
            reset(writer)
            return
        connection = Connection(self, (reader, writer), broker)
        self.connections.add(connection)
        self.opened += 1
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


class Proxy:
    """All links, and the commands on them."""

    def __init__(self):
        self.links, self.held = {}, []

    def ours(self, frame):
        """A response with our ports in place of the brokers'."""
        for link in self.links.values():
            theirs = link.host.encode() + link.port.to_bytes(4, "big")
            frame = frame.replace(theirs, link.host.encode() + link.listen.to_bytes(4, "big"))
        return frame

    async def command(self, command):
        """Does what a line says; answers what is to be told."""
        named = command.get("link")
        links = [self.links[named]] if named else list(self.links.values())
        ways, do = WAYS[command.get("way", "both")], command["do"]
        if do == "latency":
            base, jitter = command["ms"] / 1000, command.get("jitter_ms", 0) / 1000
            for link in links:
                link.latency.update(dict.fromkeys(ways, lambda: base + random.random() * jitter))
        elif do == "stall":
            for flow in (link.flows[way] for link in links for way in ways):
                flow.clear()
        elif do == "swallow":
            for link in links:
                link.swallows.update(dict.fromkeys(ways, True))
        elif do == "hold":
            for link in links:
                link.holds.append(Hold(command))
        elif do == "held":
            return {"held": [held.told() for held in self.held]}
        elif do == "release":
            return await self.release(command.get("id"), command.get("wait_s", 10))
        elif do == "stats":
            return {link.name: {"now": len(link.connections), "opened": link.opened, **link.bytes, "requests": link.requests} for link in links}
        else:
            await self.whole(do, links)
        return {"ok": True}

    async def whole(self, do, links):
        """Commands on whole connections."""
        for link in links:
            if do == "reset":
                for connection in list(link.connections):
                    connection.reset()
            elif do == "close":
                link.close()
            elif do in ("open", "heal"):
                await link.open()
                if do == "heal":
                    link.calm()
                    for connection in [c for c in link.connections if c.lost]:
                        connection.reset()
            else:
                raise KeyError(f"`{do}` is no command")

    async def release(self, number, wait_s):
        """Sends on what is held, and waits for the broker's answers."""
        waiting = [held for held in self.held if not held.go.is_set() and number in (None, held.number)]
        for held in waiting:
            held.go.set()
        try:
            await asyncio.wait_for(asyncio.gather(*(held.answered.wait() for held in waiting)), wait_s)
        except TimeoutError:
            pass
        return {"released": [held.told() for held in waiting]}

    async def obey(self, reader, writer):
        """A control connection: a line in, a line out."""
        while line := await reader.readline():
            try:
                answer = await self.command(json.loads(line))
            except (KeyError, ValueError, TypeError) as error:
                answer = {"error": repr(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


async def serve(options):
    """Opens all links, says so, and stays until standard input ends."""
    proxy = Proxy()
    for text in options.link:
        name, where = text.split("=", 1)
        listen, host, port = where.split(":")
        link = Link(proxy, name, int(listen), host, int(port))
        proxy.links[link.name] = link
        await link.open()
    control = await asyncio.start_server(proxy.obey, "127.0.0.1", options.control)
    ready = {"control": control.sockets[0].getsockname()[1], "links": {name: link.listen for name, link in proxy.links.items()}}
    print(json.dumps(ready), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)  # connections just end: nobody waits for them


def main():
    """Reads the links."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--link", action="append", required=True, metavar="NAME=LISTEN:HOST:PORT")
    parser.add_argument("--control", type=int, default=0, metavar="PORT")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
