//! OpenAI's Responses: what Codex speaks.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Act, Asked, Event, Manner,
    dialogue::{Said, stand},
    pieces,
};

/// The tool that runs a program which calls other tools.
const EXEC: &str = "exec";

/// Reads a request.
pub(super) fn read(body: &Value) -> Asked {
    let mut said = Vec::new();
    for item in body["input"].as_array().into_iter().flatten() {
        let kind = item["type"].as_str().unwrap_or("message");
        if kind.ends_with("_call_output") {
            said.push(Said::Result);
        }
        if kind == "message" && item["role"] == "user" {
            let parts = item["content"].as_array().into_iter().flatten();
            let text = parts.filter_map(|part| part["text"].as_str());
            said.push(Said::Text(text.collect::<Vec<_>>().join("\n")));
        }
    }
    let stand = stand(said);
    let mut tools = Vec::new();
    name_tools(&body["tools"], &mut tools);
    for item in body["input"].as_array().into_iter().flatten() {
        // newer models are told of their tools on the way
        if item["type"] == "additional_tools" {
            name_tools(&item["tools"], &mut tools);
        }
    }
    // a title of the thread: asked for in a form
    let form = body["text"]["format"]["type"] == "json_schema";
    Asked {
        stand,
        tools,
        aside: form.then(|| json!({"title": "scripted"})),
        model: body["model"].as_str().unwrap_or("scripted").to_owned(),
        streams: body["stream"].as_bool().unwrap_or_default(),
    }
}

/// Adds the names of tools, those within a group too.
fn name_tools(list: &Value, names: &mut Vec<String>) {
    for tool in list.as_array().into_iter().flatten() {
        if tool["type"] == "namespace" {
            name_tools(&tool["tools"], names);
        } else if let Some(name) = tool["name"].as_str().or(tool["type"].as_str()) {
            names.push(name.to_owned());
        }
    }
}

/// Returns the body of a refusal.
pub(super) fn refusal(status: u16) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        429 => "rate_limit_exceeded",
        _ => "server_error",
    };
    json!({"error": {"message": format!("scripted {status}"), "type": kind, "code": kind}})
}

/// Returns an answer whole.
pub(super) fn whole(asked: &Asked, act: &Act) -> Value {
    let id = format!("resp_{}", Uuid::new_v4().simple());
    completed(asked, &id, &item(asked, act))
}

/// Returns an answer in events.
pub(super) fn events(asked: &Asked, act: &Act) -> Vec<Event> {
    let id = format!("resp_{}", Uuid::new_v4().simple());
    let item = item(asked, act);
    let mut opened = item.clone();
    let open = json!({"id": id, "object": "response", "status": "in_progress", "output": []});
    let mut events = vec![Event::typed("response.created", json!({"response": open}))];
    if item["type"] == "message" {
        opened["content"] = json!([]);
        opened["status"] = "in_progress".into();
        events.push(added(opened));
        events.extend(pieces(asked, act).into_iter().map(|(text, pause)| {
            let data = json!({
                "item_id": item["id"], "output_index": 0, "content_index": 0, "delta": text,
            });
            Event::typed("response.output_text.delta", data).after(pause)
        }));
    } else {
        let given = if item["type"] == "function_call" { "arguments" } else { "input" };
        opened[given] = "".into();
        events.push(added(opened));
    }
    let done = json!({"output_index": 0, "item": item});
    events.push(Event::typed("response.output_item.done", done));
    let completed = json!({"response": completed(asked, &id, &item)});
    events.push(Event::typed("response.completed", completed));
    events
}

fn added(item: Value) -> Event {
    Event::typed("response.output_item.added", json!({"output_index": 0, "item": item}))
}

fn completed(asked: &Asked, id: &str, item: &Value) -> Value {
    json!({
        "id": id,
        "object": "response",
        "status": "completed",
        "model": asked.model,
        "output": [item],
        "usage": {
            "input_tokens": 1200, "input_tokens_details": {"cached_tokens": 300},
            "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 1240,
        },
    })
}

fn item(asked: &Asked, act: &Act) -> Value {
    if let Some((name, arguments)) = call(asked, act) {
        let (id, call) = (Uuid::new_v4().simple(), Uuid::new_v4().simple());
        // some models have tools of their own beside one that takes a program which calls the rest
        if asked.tool(&[EXEC]).is_some() && !asked.tools.contains(&name) {
            return json!({
                "type": "custom_tool_call", "id": format!("ctc_{id}"),
                "call_id": format!("call_{call}"), "name": EXEC, "status": "completed",
                "input": format!("text(await tools.{name}({arguments}))"),
            });
        }
        return json!({
            "type": "function_call", "id": format!("fc_{id}"),
            "call_id": format!("call_{call}"), "name": name, "status": "completed",
            "arguments": arguments.to_string(),
        });
    }
    let text: String = pieces(asked, act).into_iter().map(|(text, _)| text).collect();
    json!({
        "type": "message",
        "id": format!("msg_{}", Uuid::new_v4().simple()),
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    })
}

/// Returns the call of a tool; none where the answer calls none, or one that is not there. The tool
/// for shell lines differs with model and configuration.
fn call(asked: &Asked, act: &Act) -> Option<(String, Value)> {
    match act {
        Act::Shell { line, manner } => {
            let names = ["exec_command", "shell_command", "shell", EXEC];
            let (name, mut arguments) = match asked.tool(&names)? {
                "shell_command" => ("shell_command", json!({"command": line})),
                "shell" => ("shell", json!({"command": ["bash", "-lc", line]})),
                _ => ("exec_command", json!({"cmd": line})),
            };
            if *manner == Manner::Risky {
                arguments["sandbox_permissions"] = "require_escalated".into();
                arguments["justification"] = "scripted".into();
            }
            Some((name.to_owned(), arguments))
        }
        Act::Ask(choices) => {
            let name = asked.tool(&["request_user_input"])?;
            let options: Vec<Value> = choices
                .iter()
                .map(|choice| json!({"label": choice, "description": format!("take {choice}")}))
                .collect();
            let question = json!({
                "id": "choice", "header": "Choice", "question": "Which one?", "options": options,
            });
            Some((name.to_owned(), json!({"questions": [question]})))
        }
        Act::Tool { name, input } => Some((name.clone(), input.clone())),
        Act::Done | Act::Say(_) | Act::Slow(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(items: Value, tools: &[&str]) -> Asked {
        let tools: Vec<Value> =
            tools.iter().map(|name| json!({"type": "function", "name": name})).collect();
        read(&json!({"stream": true, "input": items, "tools": tools}))
    }

    fn prompt(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    #[test]
    fn the_shell_is_called_by_the_name_it_has() {
        let items = json!([prompt("<environment_context/>"), prompt("[[bash ls -l]]")]);
        for (tool, arguments) in [
            ("exec_command", json!({"cmd": "ls -l"})),
            ("shell_command", json!({"command": "ls -l"})),
            ("shell", json!({"command": ["bash", "-lc", "ls -l"]})),
        ] {
            let asked = asked(items.clone(), &[tool]);
            let whole = whole(&asked, &asked.answer().act);
            assert_eq!(whole["output"][0]["name"], tool);
            let given = whole["output"][0]["arguments"].as_str().expect("arguments");
            assert_eq!(serde_json::from_str::<Value>(given).expect("JSON"), arguments);
        }
    }

    #[test]
    fn a_model_without_a_shell_of_its_own_writes_a_program() {
        let exec = json!({"type": "custom", "name": "exec"});
        let group = json!({"type": "namespace", "name": "functions", "tools": [exec]});
        let told = json!({"type": "additional_tools", "role": "developer", "tools": [group]});
        let asked = asked(json!([told, prompt("[[risky touch x]]")]), &[]);
        let item = &whole(&asked, &asked.answer().act)["output"][0];
        assert_eq!((&item["type"], &item["name"]), (&json!("custom_tool_call"), &json!("exec")));
        let program = item["input"].as_str().expect("a program");
        assert!(program.starts_with("text(await tools.exec_command({"), "{program}");
        assert!(program.contains("require_escalated"), "{program}");
        let events = events(&asked, &asked.answer().act);
        assert_eq!(events[1].data["item"]["input"], "");
    }

    #[test]
    fn an_answer_ends_with_what_it_came_to() {
        let output = json!({"type": "function_call_output", "call_id": "x", "output": "y"});
        let asked = asked(json!([prompt("[[bash ls]] [[slow 2]]"), output]), &["shell"]);
        let events = events(&asked, &asked.answer().act);
        let pieces = events.iter().filter(|event| event.name == Some("response.output_text.delta"));
        assert_eq!(pieces.count(), 3);
        let last = events.last().expect("events");
        assert_eq!(last.name, Some("response.completed"));
        let text = last.data["response"]["output"][0]["content"][0]["text"].as_str();
        assert!(text.is_some_and(|text| text.starts_with("piece 0 piece 1 DONE")), "{text:?}");
    }

    #[test]
    fn what_is_asked_in_a_form_runs_no_script() {
        let form = json!({"format": {"type": "json_schema"}});
        let asked = read(&json!({"input": [prompt("[[err 500]]")], "text": form}));
        assert_eq!(asked.answer(), super::super::Answer::default());
        let text = whole(&asked, &Act::Done)["output"][0]["content"][0]["text"].clone();
        assert_eq!(text, r#"{"title":"scripted"}"#);
    }
}
