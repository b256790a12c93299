"""Go templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sampan.cli.template import Row, Template, TemplateError
from sampan.cli.template.parse import Parser

DATA = {
    "State": {"Pid": 12, "Running": True}, "Config": {"Cmd": ["a", "b"], "Env": None, "Labels": {"x.y": "z"}},
    "Map": {"b": 2, "a": 1}, "Empty": [], "Size": 1.5, "Name": "/web",
}


@pytest.mark.parametrize(("template", "text"), [
    ("{{.State.Pid}}", "12"),
    ("{{.State.Running}} {{.Size}} {{.Config.Env}}", "true 1.5 <no value>"),
    ("{{json .Config.Cmd}}", '["a","b"]'),
    ("{{.Config.Cmd}} {{.Map}}", "[a b] map[a:1 b:2]"),
    ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<a><b>"),
    ("{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$i}}={{$e}}{{end}}", "0=a,1=b"),
    ("{{range $k, $v := .Map}}{{$k}}{{$v}} {{end}}", "a1 b2 "),
    ("{{range .Empty}}x{{else}}none{{end}}", "none"),
    ("{{range .Config.Cmd}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
    ("{{range .Config.Cmd}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b"),
    ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
    ("{{if .Empty}}1{{else if .State.Running}}2{{else}}3{{end}}", "2"),
    ("{{if and .State.Running (eq .State.Pid 12)}}ok{{end}}", "ok"),
    ("{{or .Empty \"x\"}} {{not true}}", "x false"),
    ("{{with .Map}}{{.a}}{{end}}{{with .Empty}}x{{else}}-{{end}}", "1-"),
    ('{{index .Config.Labels "x.y"}}|{{index .Config.Labels "nope"}}', "z|"),
    ('{{index .Config.Cmd 1}} {{(index .Config.Cmd 0)}} {{slice .Name 1}}', "b a web"),
    ("{{.Config.Labels.nope}}", "<no value>"),
    ("{{len .Config.Cmd}} {{len .Name}}", "2 4"),
    ('{{upper "a"}}{{lower "B"}}{{title "cd"}}', "AbCd"),
    ('{{"ab" | upper | printf "%-4s|"}}', "AB  |"),
    ('{{printf "%5d|%05.1f|%q|%v|%t|%x" 42 3.14159 "x" .Map true 255}}', '   42|003.1|"x"|map[a:1 b:2]|true|ff'),
    ('{{printf "%s"}} {{printf "x" 1}}', "%!s(MISSING) x%!(EXTRA 1)"),
    ('{{println "a" 3}}{{print 1 2 "x"}}', "a 3\n1 2x"),
    ('{{join .Config.Cmd ", "}} {{split "a-b" "-"}}', "a, b [a b]"),
    ('{{truncate "abcdef" 3}}{{pad "x" 1 2}}|', "abc x  |"),
    ("{{$x := 3}}{{if true}}{{$x = 4}}{{end}}{{$x}} {{$.Name}}", "4 /web"),
    ("{{range .Config.Cmd}}{{$.State.Pid}}{{end}}", "1212"),
    ("a {{- 1 -}} b", "a1b"),
    ("a{{/* nothing */}}b {{- /* trimmed */ -}} c", "abc"),
    ('{{"a}}b"}}{{`r\\aw`}}', "a}}br\\aw"),
    ("{{eq 1 1.0}} {{eq .State.Pid 1 12}} {{ne 1 2}} {{eq true 1}}", "true true true false"),
    ("{{lt 1 2}} {{ge 2 2}} {{gt 1 2}} {{le 3 2}}", "true true false false"),
    ("{{nil}}x{{0x10}}{{'a'}}", "<no value>x1697"),
    ("", ""), ("plain", "plain"), ("{", "{"),
])
def test_rendering(template: str, text: str) -> None:
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(("template", "message"), [
    ("{{.ID", "unclosed action"),
    ("{{end}}", "unexpected {{end}}"),
    ("{{if true}}", "unexpected EOF"),
    ("{{if}}x{{end}}", "missing value for command"),
    ("{{(.X}}", "unclosed left paren"),
    ("{{.X |}}", "missing value for command"),
    ("{{?}}", "unexpected"),
    ("{{else}}", "unexpected {{else}}"),
    ("{{nope 1}}", 'function "nope" not defined'),
    ("{{$x}}", "undefined variable"),
    ("{{.Nope}}", 'map has no entry for key "Nope"'),
    ("{{.State.Pid.X}}", "can't evaluate field X"),
    ("{{.Config.Env.X}}", "nil pointer"),
    ("{{index .Config.Cmd 9}}", "index out of range"),
    ("{{index}}", "wrong number"),
    ("{{range .Size}}{{end}}", "can't iterate"),
    ("{{len .Size}}", "len of type"),
    ('{{printf "%99999999d" 1}}', "too large"),
    ("{{" + "(" * 200 + "1" + ")" * 200 + "}}", "deeply"),
    ("{{if 1}}" * 200 + "{{end}}" * 200, "deeply"),
])
def test_refusals(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template).render(DATA)
    assert message in str(caught.value)


def test_a_row_calls_its_fields() -> None:
    row = Row("*x", {"ID": lambda: "1", "Label": lambda name="": f"<{name}>"}, frozenset(("Label",)))
    assert Template('{{.ID}} {{.Label "a"}}').render(row) == "1 <a>"
    assert Template("{{json .}}").render(row) == '{"ID":"1"}'
    with pytest.raises(TemplateError, match=r"can't evaluate field Foo in type \*x"):
        Template("{{.Foo}}").render(row)


@given(some.text(alphabet="{}.-|()$ \"`'abx12=:,/*%\n", max_size=60))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        Parser(text).template()
    except TemplateError:
        pass
