use http::Request;

use super::*;

fn read(bytes: &str) -> (Result<Option<AnswerHead>, HeadFault>, BytesMut) {
    let mut received = BytesMut::from(bytes);
    (of_answer(&mut received, &mut 0), received)
}

#[test]
fn a_request_is_written_line_by_line_in_the_order_of_its_headers() {
    let request = Request::get("/chat?room=1&x=%20")
        .header("host", "a.test:80")
        .header("sec-websocket-protocol", "mqtt")
        .header("x-none", "")
        .header("sec-websocket-protocol", "graphql-ws");
    let head = of_request(&request.body(()).unwrap().into_parts().0);
    assert_eq!(
        String::from_utf8(head.clone()).unwrap(),
        "GET /chat?room=1&x=%20 HTTP/1.1\r\nhost: a.test:80\r\nsec-websocket-protocol: mqtt\r\nsec-websocket-protocol: graphql-ws\r\nx-none: \r\n\r\n",
    );
    assert_eq!(head.capacity(), head.len(), "it has just the room that it needs");
}

#[test]
fn of_a_101_there_are_its_headers_and_what_came_behind_it() {
    let (head, behind) = read(
        "HTTP/1.1 101 Whatever\r\nUpgrade: websocket\r\nX-None:\r\nX-A: 1\r\nx-a:  2 \r\n\r\nframes",
    );
    let Ok(Some(AnswerHead::Switching(headers))) = head else { panic!("{head:?}") };
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(lines, [("upgrade", "websocket"), ("x-none", ""), ("x-a", "1"), ("x-a", "2")]);
    assert_eq!(behind, "frames");
}

#[test]
fn what_has_another_status_is_left_as_it_came_but_for_interim_answers() {
    for status in ["200 OK", "204", "401 Unauthorized", "999 Own"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        let (head, left) = read(&format!("HTTP/1.1 100 Continue\r\n\r\n{answer}"));
        assert_eq!((head, &left[..]), (Ok(Some(AnswerHead::Other)), answer.as_bytes()));
    }
}

#[test]
fn more_has_to_come_until_a_final_head_has_ended() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let whole = format!("{interim}\r\nHTTP/1.1 101\r\n\r\n");
    for end in 0..whole.len() {
        let (head, left) = read(&whole[..end]);
        assert_eq!(head, Ok(None), "{:?}", &whole[..end]);
        assert_eq!(left.len(), if end < interim.len() { end } else { end - interim.len() });
    }
    assert_eq!(read(&whole).0, Ok(Some(AnswerHead::Switching(HeaderMap::new()))));
}

#[test]
fn what_is_no_http_is_no_head() {
    for (bytes, fault) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", httparse::Error::Version),
        ("HTTP/2.0 200 OK\r\n", httparse::Error::Version),
        ("HTTP/1.1 099 Low\r\n\r\n", httparse::Error::Status),
        ("HTTP/1.1 1x1 OK\r\n", httparse::Error::Status),
        ("HTTP/1.1 101 OK\r\nX-A: 1\r\n folded\r\n\r\n", httparse::Error::HeaderName),
        ("HTTP/1.1 101 OK\r\nX-A : 1\r\n\r\n", httparse::Error::HeaderName),
        ("HTTP/1.1 101 OK\r\nX-A: 1\0\r\n\r\n", httparse::Error::HeaderValue),
        ("HTTP/1.1 101 OK\r\nX-A: 1\rX-B: 2\r\n\r\n", httparse::Error::HeaderValue),
    ] {
        assert_eq!(read(bytes).0, Err(HeadFault::Malformed(fault)), "{bytes:?}");
    }
}

#[test]
fn a_head_has_at_most_a_hundred_headers() {
    let answer = |headers| format!("HTTP/1.1 101 OK\r\n{}\r\n", "X: y\r\n".repeat(headers));
    assert!(matches!(read(&answer(100)).0, Ok(Some(AnswerHead::Switching(_)))));
    assert_eq!(read(&answer(101)).0, Err(httparse::Error::TooManyHeaders.into()));
}

#[test]
fn a_head_has_at_most_so_many_bytes_and_each_interim_one_as_many() {
    let answer = |status, length: usize| {
        let (start, end) = (format!("HTTP/1.1 {status} OK\r\nX-Long: "), "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
    };
    let longest = answer("102", MAX_HEAD) + &answer("101", MAX_HEAD) + "frames";
    let (head, behind) = read(&longest);
    assert!(matches!(head, Ok(Some(AnswerHead::Switching(_)))), "{head:?}");
    assert_eq!(behind, "frames");
    for status in ["102", "101", "403"] {
        let long = answer(status, MAX_HEAD + 1);
        assert_eq!(read(&long).0, Err(HeadFault::TooLong));
        assert_eq!(read(&long[..MAX_HEAD]).0, Err(HeadFault::TooLong));
        assert_eq!(read(&long[..MAX_HEAD - 1]).0, Ok(None));
    }
}

#[test]
fn interim_answers_end_also_where_they_come_one_by_one() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let answer = |count: usize| interim.repeat(count) + "HTTP/1.1 101 OK\r\n\r\n";
    assert!(matches!(read(&answer(MAX_INTERIM)).0, Ok(Some(AnswerHead::Switching(_)))));
    assert_eq!(read(&answer(MAX_INTERIM + 1)).0, Err(HeadFault::Interim));
    let mut count = 0;
    for _ in 0..MAX_INTERIM {
        assert_eq!(of_answer(&mut BytesMut::from(interim), &mut count), Ok(None));
    }
    assert_eq!(of_answer(&mut BytesMut::from(interim), &mut count), Err(HeadFault::Interim));
}
