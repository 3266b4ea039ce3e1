//! Every message, field, value and RPC of every API, by name, number and type: none may go, move
//! or change its meaning.

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::file::{Strings, golden};

/// Returns one line per field, value and RPC.
fn lines() -> Vec<String> {
    let set = FileDescriptorSet::decode(warren_proto::DESCRIPTORS).expect("our own descriptors");
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("warren.")) {
        for message in &file.message_type {
            fields(file.package(), message, &mut lines);
        }
        for values in &file.enum_type {
            numbers(file.package(), values, &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |streaming| if streaming { "stream " } else { "" };
                lines.push(format!(
                    "rpc {}.{}/{} {}{} {}{}",
                    file.package(),
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines.sort();
    lines
}

fn fields(outer: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{outer}.{}", message.name());
    for field in &message.field {
        lines.push(format!("{name} {} {} {}", field.number(), field.name(), kind(field)));
    }
    for nested in &message.nested_type {
        fields(&name, nested, lines);
    }
    for values in &message.enum_type {
        numbers(&name, values, lines);
    }
}

fn kind(field: &FieldDescriptorProto) -> String {
    let of = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        plain => plain.as_str_name().to_lowercase().replace("type_", ""),
    };
    let many = if field.label() == Label::Repeated { "repeated " } else { "" };
    let optional = if field.proto3_optional() { "optional " } else { "" };
    format!("{many}{optional}{of}")
}

fn numbers(outer: &str, values: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &values.value {
        lines.push(format!("{outer}.{} {} {}", values.name(), value.number(), value.name()));
    }
}

#[test]
fn no_field_value_or_rpc_of_0_1_is_gone_or_changed() {
    let today = lines();
    // The file holds text, not hex: its names are the lines.
    let named: Strings = today.iter().map(|line| (line.clone(), Vec::new())).collect();
    let kept = golden("v0.1-schema.txt", &named);
    assert!(kept.len() > 300, "only {} lines are kept", kept.len());
    let gone: Vec<_> = kept.keys().filter(|line| !today.contains(line)).collect();
    assert!(gone.is_empty(), "no longer as in 0.1:\n{gone:#?}");
}
