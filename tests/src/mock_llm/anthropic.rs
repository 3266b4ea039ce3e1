//! Anthropic's Messages: what Claude Code speaks.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Act, Asked, Event, Manner,
    dialogue::{Said, stand},
    pieces,
};

/// Reads a request.
pub(super) fn read(body: &Value) -> Asked {
    let mut said = Vec::new();
    for message in body["messages"].as_array().into_iter().flatten() {
        if message["role"] != "user" {
            continue;
        }
        if let Some(text) = message["content"].as_str() {
            said.push(Said::Text(text.to_owned()));
        }
        for block in message["content"].as_array().into_iter().flatten() {
            match block["type"].as_str() {
                Some("tool_result") => said.push(Said::Result),
                Some("text") => {
                    said.push(Said::Text(block["text"].as_str().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
    }
    let stand = stand(said);
    let tools = body["tools"].as_array().into_iter().flatten();
    let tools: Vec<String> =
        tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect();
    // a title, a topic, a summary: asked for without any tool
    let aside = tools.is_empty().then(|| json!({"title": "scripted", "isNewTopic": false}));
    Asked {
        stand,
        tools,
        aside,
        model: body["model"].as_str().unwrap_or("scripted").to_owned(),
        streams: body["stream"].as_bool().unwrap_or_default(),
    }
}

/// Returns the body of a refusal.
pub(super) fn refusal(status: u16) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let message = match status {
        // an account without means is known by these words
        402 => "Your credit balance is too low to access the API".to_owned(),
        _ => format!("scripted {status}"),
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

/// Returns an answer whole.
pub(super) fn whole(asked: &Asked, act: &Act) -> Value {
    let text: String = pieces(asked, act).into_iter().map(|(text, _)| text).collect();
    let call = call(asked, act);
    let reason = reason(call.as_ref());
    let mut message = message(asked);
    message["content"] =
        [Some(json!({"type": "text", "text": text})), call].into_iter().flatten().collect();
    message["stop_reason"] = reason.into();
    message
}

/// Returns an answer in events.
pub(super) fn events(asked: &Asked, act: &Act) -> Vec<Event> {
    let call = call(asked, act);
    let reason = reason(call.as_ref());
    let mut events = vec![
        Event::typed("message_start", json!({"message": message(asked)})),
        begin(0, json!({"type": "text", "text": ""})),
    ];
    let text = match call {
        Some(_) => vec![("Working.".to_owned(), Duration::ZERO)],
        None => pieces(asked, act),
    };
    events.extend(
        text.into_iter().map(|(text, pause)| {
            delta(0, json!({"type": "text_delta", "text": text})).after(pause)
        }),
    );
    events.push(end(0));
    if let Some(mut call) = call {
        let input = call["input"].take().to_string();
        call["input"] = json!({});
        events.push(begin(1, call));
        events.push(delta(1, json!({"type": "input_json_delta", "partial_json": input})));
        events.push(end(1));
    }
    events.push(Event::typed(
        "message_delta",
        json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 40}}),
    ));
    events.push(Event::typed("message_stop", json!({})));
    events
}

fn begin(index: u32, block: Value) -> Event {
    Event::typed("content_block_start", json!({"index": index, "content_block": block}))
}

fn delta(index: u32, delta: Value) -> Event {
    Event::typed("content_block_delta", json!({"index": index, "delta": delta}))
}

fn end(index: u32) -> Event {
    Event::typed("content_block_stop", json!({"index": index}))
}

fn message(asked: &Asked) -> Value {
    json!({
        "id": format!("msg_{}", Uuid::new_v4().simple()),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": 1200, "output_tokens": 1,
            "cache_creation_input_tokens": 100, "cache_read_input_tokens": 5000,
        },
    })
}

fn reason(call: Option<&Value>) -> &'static str {
    if call.is_some() { "tool_use" } else { "end_turn" }
}

/// Returns the call of a tool; none where the answer calls none, or one that is not there.
fn call(asked: &Asked, act: &Act) -> Option<Value> {
    let (name, input) = match act {
        Act::Shell { line, manner } => {
            let mut input = json!({"command": line, "description": "scripted"});
            if *manner == Manner::Background {
                input["run_in_background"] = true.into();
            }
            (asked.tool(&["Bash"])?.to_owned(), input)
        }
        Act::Ask(choices) => {
            let options: Vec<Value> = choices
                .iter()
                .map(|choice| json!({"label": choice, "description": format!("take {choice}")}))
                .collect();
            let question = json!({
                "question": "Which one?", "header": "Choice", "options": options,
                "multiSelect": false,
            });
            (asked.tool(&["AskUserQuestion"])?.to_owned(), json!({"questions": [question]}))
        }
        Act::Tool { name, input } => (name.clone(), input.clone()),
        Act::Done | Act::Say(_) | Act::Slow(_) => return None,
    };
    let id = format!("toolu_{}", Uuid::new_v4().simple());
    Some(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: Value) -> Value {
        json!({
            "model": "m", "stream": true, "messages": messages,
            "tools": [{"name": "Bash"}, {"name": "AskUserQuestion"}],
        })
    }

    #[test]
    fn a_tool_is_called_and_its_answer_goes_on_with_the_script() {
        let prompt = json!({"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>x</system-reminder>"},
            {"type": "text", "text": "[[bash ls]] [[ask A|B]]"},
        ]});
        let asked = read(&request(json!([prompt])));
        let events = events(&asked, &asked.answer().act);
        let names: Vec<&str> = events.iter().filter_map(|event| event.name).collect();
        assert_eq!(names.first(), Some(&"message_start"));
        assert_eq!(names.last(), Some(&"message_stop"));
        assert!(events.iter().all(|event| event.data["type"] == event.name.unwrap_or_default()));
        let input = events.iter().find_map(|event| event.data["delta"]["partial_json"].as_str());
        let input: Value = serde_json::from_str(input.expect("a call")).expect("JSON");
        assert_eq!(input["command"], "ls");

        let result = json!({"role": "user", "content": [{"type": "tool_result", "content": "x"}]});
        let asked = read(&request(json!([prompt, {"role": "assistant", "content": "x"}, result])));
        assert_eq!(asked.stand.done, 1);
        let whole = whole(&asked, &asked.answer().act);
        assert_eq!(whole["stop_reason"], "tool_use");
        assert_eq!(whole["content"][1]["input"]["questions"][0]["options"][1]["label"], "B");
    }

    #[test]
    fn what_is_asked_aside_runs_no_script() {
        let asked = read(&json!({"messages": [{"role": "user", "content": "[[err 529]]"}]}));
        assert_eq!(asked.answer(), super::super::Answer::default());
        let whole = whole(&asked, &Act::Done);
        assert_eq!(whole["stop_reason"], "end_turn");
        let text = whole["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains("\"title\""), "{text}");
    }

    #[test]
    fn a_tool_that_is_not_there_is_not_called() {
        let mut request = request(json!([{"role": "user", "content": "[[bash ls]]"}]));
        request["tools"] = json!([{"name": "Read"}]);
        let asked = read(&request);
        assert_eq!(whole(&asked, &asked.answer().act)["stop_reason"], "end_turn");
    }
}
