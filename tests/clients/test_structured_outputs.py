"""Structured outputs and function calls through the official client: whatever the model prefers, what it says is
valid. Judged by the jsonschema package, which has nothing to do with the server."""

import concurrent.futures
import json
import time
import unittest

import jsonschema
import openai
from pydantic import BaseModel
from server_process import Server

MESSAGES = [{"role": "user", "content": "Tell me something."}]

TREE = {"$ref": "#/$defs/node", "$defs": {"node": {
    "type": "object", "additionalProperties": False, "required": ["value", "children"],
    "properties": {"value": {"type": "integer", "minimum": -20, "maximum": 300},
                   "children": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/node"}}}}}}

# Each has an end that random walks find; the names of additional properties have no bound, which takes more of them.
SCHEMAS = {
    "object": {"type": "object", "additionalProperties": False, "required": ["name", "tags"], "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "score": {"type": "number", "exclusiveMinimum": -1, "maximum": 10},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "\u00e9", None]}, "minItems": 1, "maxItems": 4}}},
    "alternatives": {"anyOf": [{"const": {"x": [1, "y"]}}, {"type": ["integer", "null"]},
                               {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}],
                                "items": False, "minItems": 2}]},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]{4}(x|\u00e9)?$"},
    "date": {"type": "string", "format": "date"},
    "additional": {"type": "object", "additionalProperties": {"type": "boolean"},
                   "properties": {"id": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["id"]},
    "tree": TREE,
}


def tool(name, parameters=None):
    function = {"name": name, "description": f"Does {name}."}
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


class StructuredOutputs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.client = openai.OpenAI(base_url=f"http://127.0.0.1:{cls.server.port}/v1", api_key="any", max_retries=4)
        deadline = time.monotonic() + 30
        while not cls.client.models.list().data:
            if time.monotonic() > deadline:
                raise AssertionError("the model was not loaded in time")
            time.sleep(0.05)

    def chat(self, **parameters):
        return self.client.chat.completions.create(
            **{"model": "demo", "messages": MESSAGES, "max_tokens": 300, "temperature": 1.8, **parameters})

    def constrained(self, schema, **parameters):
        return self.chat(response_format={"type": "json_schema",
                                          "json_schema": {"name": "answer", "strict": True, "schema": schema}},
                         **parameters)

    def test_answers_are_valid_for_their_schema(self):
        def ask(job):
            name, seed = job
            choice = self.constrained(SCHEMAS[name], seed=seed, temperature=0 if seed == 0 else 1.8).choices[0]
            return name, choice

        jobs = [(name, seed) for name in SCHEMAS for seed in range(40)]
        finished = dict.fromkeys(SCHEMAS, 0)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for name, choice in pool.map(ask, jobs):
                if choice.finish_reason != "stop":
                    self.assertEqual(choice.finish_reason, "length")
                    continue
                finished[name] += 1
                validator = jsonschema.Draft202012Validator(
                    SCHEMAS[name], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
                validator.validate(json.loads(choice.message.content))
        for name, count in finished.items():
            self.assertGreaterEqual(count, 3, f"answers for {name} that came to their end")

    def test_any_json_object_is_one(self):
        finished = 0
        for seed in range(8):
            choice = self.chat(response_format={"type": "json_object"}, seed=seed, max_tokens=400).choices[0]
            if choice.finish_reason == "stop":
                finished += 1
                self.assertIsInstance(json.loads(choice.message.content), dict)
            else:
                self.assertTrue(choice.message.content.startswith("{"))
        self.assertGreater(finished, 0)

    def test_the_stream_and_the_seed_give_the_same_text(self):
        whole = self.constrained(SCHEMAS["object"], seed=3).choices[0].message.content
        parts = self.constrained(SCHEMAS["object"], seed=3, stream=True)
        self.assertEqual("".join(p.choices[0].delta.content or "" for p in parts), whole)

    def test_completions_know_response_formats_too(self):
        answer = self.client.completions.create(
            model="demo", prompt="x", max_tokens=100,
            extra_body={"response_format": {"type": "json_schema", "json_schema": {
                "name": "n", "schema": {"type": "array", "items": {"type": "boolean"}, "minItems": 3,
                                        "maxItems": 3}}}})
        self.assertEqual([type(x) for x in json.loads(answer.choices[0].text)], [bool] * 3)

    def test_pydantic_models_are_parsed(self):
        class Step(BaseModel):
            ok: bool
            level: int

        class Answer(BaseModel):
            steps: list[Step]
            done: bool

        parsed = None
        for seed in range(10):
            try:
                parsed = self.client.chat.completions.parse(
                    model="demo", messages=MESSAGES, response_format=Answer, seed=seed, max_tokens=300)
                break
            except openai.LengthFinishReasonError:
                continue
        self.assertIsInstance(parsed.choices[0].message.parsed, Answer)

    def test_unsupported_schemas_are_refused_with_keyword_and_place(self):
        for schema, words in (({"type": "object", "properties": {"a": {"not": {}}}}, ("'not'", "#/properties/a")),
                              ({"type": "array", "uniqueItems": True}, ("uniqueItems",)),
                              ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, ("itself",)),
                              ({"type": "integer", "minimum": 2, "maximum": 1}, ("finite",))):
            with self.assertRaises(openai.BadRequestError) as raised:
                self.constrained(schema)
            self.assertEqual(raised.exception.param, "response_format")
            for word in words:
                self.assertIn(word, raised.exception.body["message"])

    def test_a_named_function_is_called(self):
        parameters = {"type": "object", "required": ["city", "days"], "additionalProperties": False, "properties": {
            "city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}}}
        wanted = {"tools": [tool("weather", parameters), tool("stop")],
                  "tool_choice": {"type": "function", "function": {"name": "weather"}}, "seed": 4}
        choice = self.chat(**wanted).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertIsNone(choice.message.content)
        (call,) = choice.message.tool_calls
        self.assertEqual(call.function.name, "weather")
        jsonschema.validate(json.loads(call.function.arguments), parameters)

        with self.client.chat.completions.stream(model="demo", messages=MESSAGES, max_tokens=300, temperature=1.8,
                                                 **wanted) as stream:
            streamed = stream.get_final_completion().choices[0]
        self.assertEqual(streamed.finish_reason, "tool_calls")
        self.assertEqual(streamed.message.tool_calls[0].function.arguments, call.function.arguments)

        messages = MESSAGES + [choice.message.model_dump(exclude_none=True),
                               {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]
        self.assertTrue(self.chat(messages=messages, temperature=0, tools=wanted["tools"]).choices[0].message.content)

    def test_one_of_several_functions_is_called_where_one_must_be(self):
        parameters = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
                      "required": ["next"], "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 5}}}
        tools = [tool("first", parameters), tool("second"), tool("third", TREE["$defs"]["node"] | {
            "properties": {"value": {"type": "integer", "maximum": 9}, "children": {"const": []}}})]
        for seed in range(6):
            for stream in (False, True):
                answer = self.chat(tools=tools, tool_choice="required", seed=seed, stream=stream)
                if stream:
                    chunks = [c.choices[0] for c in answer]
                    calls = [t for c in chunks for t in c.delta.tool_calls or []]
                    self.assertEqual(chunks[-1].finish_reason, "tool_calls")
                else:
                    self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
                    calls = answer.choices[0].message.tool_calls
                self.assertEqual(len(calls), 1)
                described = next(t["function"] for t in tools if t["function"]["name"] == calls[0].function.name)
                jsonschema.validate(json.loads(calls[0].function.arguments),
                                    described.get("parameters", {"const": {}}))

    def test_tools_that_need_not_be_called_are_not(self):
        choice = self.chat(tools=[tool("first")], tool_choice="auto", temperature=0).choices[0]
        self.assertIsNone(choice.message.tool_calls)
        self.assertTrue(choice.message.content)
        with self.assertRaises(openai.BadRequestError):
            self.chat(tool_choice="required")
        with self.assertRaises(openai.BadRequestError):
            self.chat(tools=[tool("first", {"type": "object", "not": {}})], tool_choice="required")


if __name__ == "__main__":
    unittest.main()
