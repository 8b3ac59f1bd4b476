//! The end of a stream.

use super::*;

#[test]
fn only_a_whole_ready_for_query_shows_the_state() {
    let table: &[(&str, TailState)] = &[
        ("", TailState::Unknown),
        ("5A 00000005 49", TailState::Idle),
        ("5A 00000005 54", TailState::InTransaction),
        ("5A 00000005 45", TailState::Failed),
        ("5A 00000005 00", TailState::Unknown),
        ("00000005 49", TailState::Unknown),
        ("5A 00000006 49", TailState::Unknown),
        ("43 00000005 49", TailState::Unknown),
        ("43 0000000D 'SELECT 1' 00 5A 00000005 49", TailState::Idle),
        ("5A 00000005 49 43", TailState::Unknown),
        ("FFFF 5A 00000005 45", TailState::Failed),
    ];
    for (input, expected) in table {
        let input = bytes(input);
        for at in 0..=input.len() {
            let mut tail = Tail::default();
            tail.feed(&input[..at]);
            tail.feed(&input[at..]);
            assert_eq!(tail.state(), *expected, "{input:02X?} split at {at}");
        }
    }
}

proptest! {
    #[test]
    fn tail_of_any_chunks_is_their_last_six_bytes(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9), ready in any::<bool>()) {
        let mut chunks = chunks;
        if ready {
            chunks.push(bytes("5A 0000"));
            chunks.push(bytes("0005 49"));
        }
        let mut tail = Tail::default();
        for chunk in &chunks {
            tail.feed(chunk);
        }
        let expected = chunks.concat().ends_with(&bytes("5A 00000005 49"));
        prop_assert_eq!(tail.state() == TailState::Idle, expected);
    }
}
