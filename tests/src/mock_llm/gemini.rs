//! Gemini's `generateContent`: what Gemini CLI speaks.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Act, Asked, Event, Manner,
    dialogue::{Said, stand},
    pieces,
};

/// Reads a request to a model, by the path's last part such as `m:streamGenerateContent`.
pub(super) fn read(body: &Value, called: &str) -> Asked {
    let mut said = Vec::new();
    for content in body["contents"].as_array().into_iter().flatten() {
        if content["role"] != "user" {
            continue;
        }
        for part in content["parts"].as_array().into_iter().flatten() {
            if part.get("functionResponse").is_some() {
                said.push(Said::Result);
            } else if let Some(text) = part["text"].as_str() {
                said.push(Said::Text(text.to_owned()));
            }
        }
    }
    let stand = stand(said);
    let tools = body["tools"].as_array().into_iter().flatten();
    let tools =
        tools.flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    let settings = &body["generationConfig"];
    // which model is to be asked, and who speaks next: asked for in a form
    let form = settings["responseMimeType"] == "application/json"
        || settings.get("responseJsonSchema").is_some();
    let (model, method) = called.split_once(':').unwrap_or((called, ""));
    Asked {
        stand,
        tools: tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect(),
        aside: form.then(|| {
            json!({
                "reasoning": "scripted", "model_choice": "flash", "next_speaker": "user",
                "complexity_reasoning": "scripted", "complexity_score": 10,
            })
        }),
        model: model.to_owned(),
        streams: method.starts_with("stream"),
    }
}

/// Returns the body of a refusal.
pub(super) fn refusal(status: u16) -> Value {
    let kind = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": format!("scripted {status}"), "status": kind}})
}

/// Returns an answer whole.
pub(super) fn whole(asked: &Asked, act: &Act) -> Value {
    let parts: Vec<Value> = parts(asked, act).into_iter().map(|(part, _)| part).collect();
    chunk(asked, &parts, true)
}

/// Returns an answer in events.
pub(super) fn events(asked: &Asked, act: &Act) -> Vec<Event> {
    let parts = parts(asked, act);
    let last = parts.len().saturating_sub(1);
    let event = |(place, (part, pause)): (usize, (Value, Duration))| {
        let data = chunk(asked, &[part], place == last);
        Event { name: None, data, pause }
    };
    parts.into_iter().enumerate().map(event).collect()
}

fn chunk(asked: &Asked, parts: &[Value], last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if last {
        candidate["finishReason"] = "STOP".into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": 1200, "candidatesTokenCount": 40, "totalTokenCount": 1240,
            "cachedContentTokenCount": 10,
        },
        "modelVersion": asked.model,
        "responseId": "scripted",
    })
}

fn parts(asked: &Asked, act: &Act) -> Vec<(Value, Duration)> {
    if let Some((name, args)) = call(asked, act) {
        let id = Uuid::new_v4().simple().to_string();
        return vec![(
            json!({"functionCall": {"name": name, "args": args, "id": id}}),
            Duration::ZERO,
        )];
    }
    pieces(asked, act).into_iter().map(|(text, pause)| (json!({"text": text}), pause)).collect()
}

/// Returns the call of a tool; none where the answer calls none, or one that is not there.
fn call(asked: &Asked, act: &Act) -> Option<(String, Value)> {
    match act {
        Act::Shell { line, manner } => {
            let name = asked.tool(&["run_shell_command"])?;
            let mut args = json!({"command": line, "description": "scripted"});
            if *manner == Manner::Background {
                args["is_background"] = true.into();
            }
            Some((name.to_owned(), args))
        }
        Act::Ask(choices) => {
            let name = asked.tool(&["ask_user"])?;
            let options: Vec<Value> = choices
                .iter()
                .map(|choice| json!({"label": choice, "description": format!("take {choice}")}))
                .collect();
            let question = json!({
                "question": "Which one?", "header": "Choice", "type": "choice", "options": options,
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

    fn asked(contents: Value) -> Asked {
        let tools = json!([{"functionDeclarations": [{"name": "run_shell_command"}]}]);
        read(&json!({"contents": contents, "tools": tools}), "gemini-x:streamGenerateContent")
    }

    #[test]
    fn a_script_goes_on_with_each_answer_of_a_tool() {
        let prompt = json!({"role": "user", "parts": [{"text": "[[bash ls]] [[slow 1]]"}]});
        let first = asked(json!([prompt]));
        assert!(first.streams && first.model == "gemini-x");
        let events = events(&first, &first.answer().act);
        let call = &events[0].data["candidates"][0];
        assert_eq!(call["content"]["parts"][0]["functionCall"]["args"]["command"], "ls");
        assert_eq!(call["finishReason"], "STOP");

        let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "x"}}]});
        let second = asked(json!([prompt, {"role": "model", "parts": []}, result]));
        let events = super::events(&second, &second.answer().act);
        assert_eq!(events.len(), 2);
        assert!(events[0].data["candidates"][0].get("finishReason").is_none());
        assert_eq!(events[1].pause, super::super::PIECE);
    }

    #[test]
    fn what_is_asked_in_a_form_runs_no_script() {
        let contents = json!([{"role": "user", "parts": [{"text": "[[bash ls]]"}]}]);
        let settings = json!({"responseMimeType": "application/json"});
        let body = json!({"contents": contents, "generationConfig": settings});
        let asked = read(&body, "m:generateContent");
        assert!(!asked.streams);
        let whole = whole(&asked, &asked.answer().act);
        let text = whole["candidates"][0]["content"]["parts"][0]["text"].as_str().expect("a text");
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    }
}
