//! There and back again: nothing that both can say gets lost.

use proptest::prelude::*;
use serde_json::Value;

use super::generated::{answer, conversation};
use super::{chat_answer, message_answer, to_chat, to_messages};

/// A lone text block and a string are the same.
fn plain(mut body: Value) -> Value {
    for message in body["messages"].as_array_mut().into_iter().flatten() {
        texts(&mut message["content"]);
        for block in message["content"].as_array_mut().into_iter().flatten() {
            if block["type"] == "tool_result" {
                texts(&mut block["content"]);
            }
        }
    }
    if body.get("system").is_some() {
        texts(&mut body["system"]);
    }
    body
}

fn texts(content: &mut Value) {
    if let [Value::Object(block)] = content.as_array().map(Vec::as_slice).unwrap_or_default()
        && block.get("type").is_some_and(|kind| kind == "text")
    {
        *content = block["text"].clone();
    }
}

/// The same, whatever the order of the fields.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn a_request_says_the_same_in_both_dialects(conversation in conversation()) {
        let (chat, message) = (conversation.chat(), conversation.message());
        let (there, back) = (to_messages(&chat).unwrap(), to_chat(&message).unwrap());
        prop_assert!(same(&plain(there.clone()), &plain(message.clone())), "{there}\n{message}");
        prop_assert!(same(&back, &chat), "{back}\n{chat}");
    }

    #[test]
    fn a_request_survives_the_way_there_and_back(conversation in conversation()) {
        let (chat, message) = (conversation.chat(), conversation.message());
        let returned = to_chat(&to_messages(&chat).unwrap()).unwrap();
        prop_assert!(same(&returned, &chat), "{returned}\n{chat}");
        let returned = to_messages(&to_chat(&message).unwrap()).unwrap();
        prop_assert!(same(&plain(returned.clone()), &plain(message.clone())), "{returned}\n{message}");
    }

    #[test]
    fn an_answer_survives_the_way_there_and_back(answer in answer()) {
        let mut message = answer.message();
        let returned = message_answer(&chat_answer(&message));
        // Chats have one text; blocks that follow one another are one.
        let texts: String = message["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str()).collect();
        let blocks = message["content"].as_array_mut().unwrap();
        let first = blocks.iter().position(|block| block["type"] == "text");
        if let Some(first) = first {
            blocks[first]["text"] = texts.into();
            let mut seen = false;
            blocks.retain(|block| block["type"] != "text" || !std::mem::replace(&mut seen, true));
        }
        prop_assert!(same(&returned, &message), "{returned}\n{message}");

        let completion = answer.completion();
        let mut returned = chat_answer(&message_answer(&completion));
        // A thought without a signature comes back with an empty one.
        if let Some(message) = returned["choices"][0]["message"].as_object_mut() {
            message.remove("thinking_blocks");
        }
        prop_assert!(same(&returned, &completion), "{returned}\n{completion}");
    }
}
