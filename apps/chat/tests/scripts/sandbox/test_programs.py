"""What honest programs can do, and the shapes their results must have."""

from __future__ import annotations

import asyncio

import pytest

from chat.scripts.sandbox import Language, Sandbox, Verdict

from .conftest import CACHE, INPUT, NOW_MS, handler, task

UPPER: dict[Language, str] = {
    "python": handler("python", "return {'messageBody': message['messageBody'].upper() + '!'}"),
    "lua": handler("lua", "return {messageBody = message.messageBody:upper() .. '!'}"),
}
EVERYTHING: dict[Language, str] = {
    "python": handler(
        "python",
        "import time, random, re, json\n"
        "print('seen', message['ownID'])\n"
        "words = sorted(re.sub('[aeiou]', '*', message['messageBody']).split())\n"
        "given = [words, time.time(), random.random(), random.random(), hash('x'), 0.1 + 0.2]\n"
        "return {'messageBody': json.dumps(given)}",
    ),
    "lua": handler(
        "lua",
        "print('seen', message.ownID)\n"
        "local words = {}\n"
        "for word in message.messageBody:gsub('[aeiou]', '*'):gmatch('%S+') do words[#words + 1] = word end\n"
        "for name in pairs({a = 1, b = 2, c = 3}) do words[#words + 1] = name end\n"
        "return {messageBody = table.concat(words, ' ') .. os.time() .. ' ' .. math.random() .. ' ' .. math.random(6)}",
    ),
}
LANGUAGES: list[Language] = ["python", "lua"]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_program_changes_what_is_sent(sandbox: Sandbox, language: Language) -> None:
    verdict = await sandbox.run(task(language, UPPER[language]))
    assert verdict.result == {"messageBody": "GOOD DAY!"}, verdict


async def test_a_program_answers_and_drops(sandbox: Sandbox) -> None:
    lua = handler("lua", "return {action = 'drop', reply = {{to = message.senderID, message = 'no ☃'}}}")
    python = handler("python", "return {'action': 'drop', 'reply': [{'to': message['senderID'], 'message': 'no ☃'}]}")
    wanted = {"action": "drop", "reply": [{"to": 7, "message": "no ☃"}]}
    assert (await sandbox.run(task("lua", lua, "incoming"))).result == wanted
    assert (await sandbox.run(task("python", python, "incoming"))).result == wanted


async def test_replies_may_be_left_out(sandbox: Sandbox) -> None:
    wanted = {"action": "forward", "reply": []}
    for source in ("return {action = 'forward'}", "return {action = 'forward', reply = {}}"):
        assert (await sandbox.run(task("lua", handler("lua", source), "incoming"))).result == wanted


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_same_task_has_the_same_verdict_in_any_worker(language: Language) -> None:
    verdicts: list[Verdict] = []
    for _ in range(2):
        async with Sandbox(CACHE, workers=2) as sandbox:
            verdicts += await asyncio.gather(*(sandbox.run(task(language, EVERYTHING[language])) for _ in range(3)))
    first = verdicts[0]
    assert first.result is not None, first
    assert str(NOW_MS // 1000) in first.result["messageBody"]
    assert first.output.split() == ["seen", "1"]
    assert first.fuel_used > 0
    assert verdicts == [first] * 6


@pytest.mark.parametrize("language", LANGUAGES)
async def test_randomness_is_of_the_seed(sandbox: Sandbox, language: Language) -> None:
    results = [
        (await sandbox.run(task(language, EVERYTHING[language], seed=bytes([number]) * 16))).result for number in (1, 2)
    ]
    assert results[0] != results[1]


async def test_garbage_is_collected_without_harm(sandbox: Sandbox) -> None:
    """MicroPython's collector saw too few pointers before they were spilled to the stack (interpreters/build)."""
    source = handler(
        "python",
        "total = 0\nfor i in range(6000):\n    for key, row in {'k%d' % i: [i] * 5}.items():\n"
        "        total += len(key) + row[0]\nreturn {'messageBody': str(total)}",
    )
    verdict = await sandbox.run(task("python", source))
    assert verdict.result == {"messageBody": str(sum(len(f"k{i}") + i for i in range(6000)))}, verdict


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_longest_message_can_be_rewritten_in_the_plainest_way(sandbox: Sandbox, language: Language) -> None:
    source = {
        "python": "body = ''\nfor letter in message['messageBody']:\n    body = body + letter\n"
        "return {'messageBody': body}",
        "lua": "local body, given = '', message.messageBody\n"
        "for at = 1, #given do body = body .. given:sub(at, at) end\n"
        "return {messageBody = body}",
    }[language]
    long = {**INPUT, "messageBody": "abcdefgh" * 512}
    verdict = await sandbox.run(task(language, handler(language, source), input=long))
    assert verdict.result == {"messageBody": long["messageBody"]}, verdict


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "a result is"),
        ("return 'text'", "a result is"),
        ("return {'messageBody': 3}", "messageBody is text"),
        ("return {'messageBody': ''}", "has 0 bytes"),
        ("return {'messageBody': 'x' * 4097}", "has 4097 bytes"),
        ("return {'messageBody': 'x', 'more': 1}", "unknown field 'more'"),
        ("return {'messageBody': handle}", "not JSON"),
        ("return {'messageBody': float('nan')}", "not JSON"),
    ],
)
async def test_a_result_for_outgoing_has_its_shape(sandbox: Sandbox, body: str, told: str) -> None:
    verdict = await sandbox.run(task("python", handler("python", body)))
    assert verdict.error == "bad_result", verdict
    assert told in verdict.detail


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return {}", "action is forward or drop"),
        ("return {action = 'drop', reply = {{to = 99, message = 'x'}}}", "not to 99"),
        ("return {action = 'drop', reply = {{to = 7}}}", "message is text"),
        ("return {action = 'drop', reply = 'x'}", "reply is a list"),
        ("return {action = 'drop', reply = {{to = 7, message = '\\255'}}}", "not UTF-8"),
        ("return {action = print}", "can't hold a function"),
        ("return {action = 0/0}", "not finite"),
        ("return {1, a = 2}", "both a list"),
        ("local t = {} t.t = t return t", "nested too deeply"),
        ("return {action = 'x', reply = ('x'):rep(300000)}", "at most 262144 bytes"),
        (
            "local r = {} for i = 1, 11 do r[i] = {to = 7, message = 'x'} end return {action = 'drop', reply = r}",
            "11 replies",
        ),
    ],
)
async def test_a_result_for_incoming_has_its_shape(sandbox: Sandbox, body: str, told: str) -> None:
    verdict = await sandbox.run(task("lua", handler("lua", body), "incoming"))
    assert verdict.error == "bad_result", verdict
    assert told in verdict.detail
