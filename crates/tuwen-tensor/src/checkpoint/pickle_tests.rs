//! Tests of the pickle machine.

use super::*;

fn error(bytes: &[u8]) -> String {
    read(bytes).map(|pickle| format!("{:?}", pickle.root)).expect_err("must be refused").to_string()
}

#[test]
fn calls_are_refused_by_name() {
    // What `pickle.dumps` gives for an object whose `__reduce__` returns `(os.system, ("id",))`.
    let message = error(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.");
    assert!(message.contains("`posix.system`") && message.contains("function call"), "{message}");
    let message = error(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.");
    assert!(message.contains("`os.system`"), "{message}");
    assert!(error(b"(S'id'\nios\nsystem\n.").contains("`os.system`"));
    let message = error(b"\x80\x02cmy.net\nModel\n)\x81.");
    assert!(message.contains("`my.net.Model`") && message.contains("state_dict"), "{message}");
}

#[test]
fn plain_values_of_all_protocols_are_read() {
    let root = |bytes: &'static [u8]| read(bytes).expect("valid").root;
    assert!(matches!(root(b"I42\n."), Value::Int(42)));
    assert!(matches!(root(b"I01\n."), Value::Bool(true)));
    assert!(matches!(root(b"L-7L\n."), Value::Int(-7)));
    assert!(matches!(root(b"S'abc'\n."), Value::Str("abc")));
    assert!(matches!(root(b"\x80\x02\x8a\x02\x00\xff."), Value::Int(-256)));
    assert!(matches!(root(b"\x80\x02\x8a\x00."), Value::Int(0)));
    assert!(matches!(root(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94."), Value::Str("x")));
    assert!(matches!(root(b"\x80\x03G\x3f\xf0\x00\x00\x00\x00\x00\x00."), Value::Opaque));
    assert!(matches!(root(b"\x80\x04\x8f(K\x01\x90."), Value::Opaque));
    let pickle = read(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bh\x00u.").expect("a cycle");
    let Some(Node::Dict(entries)) = pickle.node(pickle.root) else { panic!("a dictionary") };
    assert!(matches!(entries[..], [(Value::Str("a"), Value::Int(1)), (Value::Str("b"), Value::Node(0))]));
}

#[test]
fn inert_objects_are_read_past() {
    let pickle = read(b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sb.").expect("inert");
    assert!(matches!(pickle.root, Value::Opaque));
}

#[test]
fn broken_pickles_are_errors() {
    for bytes in [
        &b""[..],
        b".",
        b"\x80\x09.",
        b"\x80\x02X\xff\xff\xff\xffab",
        b"\x80\x02h\x07.",
        b"\x80\x02t.",
        b"(K\x01(0.",
        b"K\x01K\x02R.",
        b"\x80\x02(K\x01d.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"K\x01Q.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    ] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn depth_costs_no_stack() {
    let mut bytes = b"\x80\x02".to_vec();
    bytes.extend(std::iter::repeat_n(b']', 500_000));
    bytes.extend(std::iter::repeat_n(b'a', 499_999));
    bytes.push(b'.');
    assert_eq!(read(&bytes).expect("deep but finite").nodes.len(), 500_000);
    bytes.truncate(2);
    bytes.extend(std::iter::repeat_n(b')', MAX_STEPS + 1));
    assert!(error(&bytes).contains("instructions"));
}
