use proptest::prelude::*;

use super::*;

/// A frame with a payload of that length, masked or not.
fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask | length as u8),
        126..=65_535 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend([1, 2, 3, 4]);
    }
    bytes.extend(std::iter::repeat_n(0x88, length));
    bytes
}

prop_compose! {
    fn any_frame()(first in any::<u8>(), length in prop_oneof![0_usize..200, 65_400_usize..65_700], masked in any::<bool>()) -> Vec<u8> {
        frame(first, length, masked)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_bytes_gives_the_same_as_the_whole(
        frames in prop::collection::vec(any_frame(), 1..6),
        cuts in prop::collection::vec(1_usize..5000, 1..40),
    ) {
        let stream: Vec<u8> = frames.concat();
        let expected = frames.iter().filter(|frame| frame[0] & 0x80 != 0 && frame[0] & 0x0f <= 2).count();
        let closes = frames.iter().any(|frame| frame[0] & 0x0f == 8);
        let mut scanner = FrameScanner::default();
        let mut messages = 0;
        let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let cut = (*cuts.next().unwrap()).min(rest.len());
            messages += scanner.scan(&rest[..cut]).messages;
            rest = &rest[cut..];
        }
        prop_assert_eq!(messages, expected as u64);
        prop_assert!(scanner.at_boundary());
        prop_assert_eq!(scanner.close_seen(), closes);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        FrameScanner::default().scan(&bytes);
    }
}

#[test]
fn a_frame_is_at_its_boundary_only_when_its_last_payload_byte_has_come() {
    let bytes = frame(0x82, 300, true);
    let mut scanner = FrameScanner::default();
    for (index, byte) in bytes.iter().enumerate() {
        assert!(scanner.at_boundary() == (index == 0), "byte {index}");
        scanner.scan(&[*byte]);
    }
    assert!(scanner.at_boundary());
}

#[test]
fn a_close_frame_has_code_and_reason_and_can_be_masked() {
    assert_eq!(close_frame(1001, "bye", None), [0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']);
    let masked = close_frame(1001, "", Some([0xff, 0, 0, 0]));
    assert_eq!(masked, [0x88, 0x82, 0xff, 0, 0, 0, 0x03 ^ 0xff, 0xe9]);
    assert_eq!(close_frame(1000, &"x".repeat(500), None).len(), 2 + 125);
}
