use std::{
    panic,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use vitals_registry::SpanContext;

use super::*;
use crate::clock;

#[test]
fn outside_of_a_request_there_is_no_context() {
    assert!(current().is_none());
    assert!(current_span().is_none());
}

#[test]
fn a_context_is_created_when_first_used_and_kept_for_the_request() {
    let mut context = None;
    within(&mut context, || assert!(current_span().is_none()));
    assert!(context.is_none(), "it was not used");
    within(&mut context, || add_query(Duration::from_millis(2)));
    within(&mut context, || add_query(Duration::from_millis(3)));
    assert!(current().is_none());
    assert_eq!(
        add_query(Duration::from_millis(4)),
        Attribution::Unattributed
    );
    let context = context.unwrap();
    assert_eq!(
        (context.queries(), context.database_time()),
        (2, Duration::from_millis(5))
    );
}

#[test]
fn the_memory_of_a_context_is_used_again_without_its_contents() {
    let mut context = RequestContext::listed_in(None);
    let address = Arc::as_ptr(&context);
    for round in 0..3 {
        let mut current = Some(Arc::clone(&context));
        within(&mut current, || {
            match round {
                // Work on another thread alone.
                0 => thread::spawn(carry(|| ())).join().unwrap(),
                1 => drop(note_wait_end(Duration::from_millis(1), clock::now())),
                _ => drop(add_query(Duration::from_millis(1))),
            }
            note_query(None, clock::now(), false);
        });
        drop(current);
        assert!(context.events().count() > 0, "{round}");
        RequestContext::recycle(&mut context);
        assert_eq!(Arc::as_ptr(&context), address);
        assert_eq!(context.events().count(), 0);
        assert_eq!(context.unfinished(clock::now()).count(), 0);
        assert_eq!(
            (context.queries(), context.pool_wait()),
            (0, Duration::ZERO)
        );
    }
}

#[test]
fn requests_nest_and_do_not_see_each_other() {
    let span = |id| SpanContext {
        trace_id: id,
        span_id: 1,
    };
    let mut outer = Some(of_span(span(1)));
    let mut inner = Some(of_span(span(2)));
    within(&mut outer, || {
        within(&mut inner, || assert_eq!(current_span(), Some(span(2))));
        assert_eq!(current_span(), Some(span(1)));
    });
}

#[test]
fn a_panic_leaves_no_context_behind() {
    let mut context = None;
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        within(&mut context, || panic!("on purpose"))
    }));
    assert!(result.is_err());
    assert!(current().is_none());
}

#[test]
fn a_carried_closure_works_for_its_request_on_another_thread() {
    let mut context = None;
    let carried = within(&mut context, || {
        carry(|| {
            let context = current().unwrap();
            context.add_pool_wait(Duration::from_millis(1), clock::now(), Access::Sole);
        })
    });
    thread::spawn(carried).join().unwrap();
    assert_eq!(context.unwrap().pool_wait(), Duration::from_millis(1));
    thread::spawn(carry(|| assert!(current().is_none())))
        .join()
        .unwrap();
}

#[test]
fn a_carried_future_works_for_its_request_in_each_poll_and_for_nobody_in_between() {
    let mut context = None;
    let mut polls = 0;
    let future = within(&mut context, || {
        carry_future(std::future::poll_fn(move |_| {
            add_query(Duration::from_millis(1));
            polls += 1;
            if polls == 3 {
                Poll::Ready(7)
            } else {
                Poll::Pending
            }
        }))
    });
    let mut future = std::pin::pin!(future);
    let mut task = Context::from_waker(std::task::Waker::noop());
    // Within another request: the future keeps to its own.
    let mut other = None;
    for expected in [Poll::Pending, Poll::Pending, Poll::Ready(7)] {
        let polled = within(&mut other, || future.as_mut().poll(&mut task));
        assert_eq!(polled, expected);
        assert!(current().is_none());
    }
    assert_eq!(context.unwrap().queries(), 3);
    assert!(other.is_none());
}

#[test]
fn queries_in_the_drop_of_a_carried_future_belong_to_its_request() {
    let mut context = None;
    let mut future = within(&mut context, || {
        Box::pin(carry_future(async {
            let _query = QueryOnDrop;
            std::future::pending::<()>().await;
        }))
    });
    let mut task = Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut task).is_pending());
    drop(future);
    assert_eq!(context.unwrap().queries(), 1);
}

#[test]
fn a_future_carried_outside_of_a_request_has_no_context() {
    let mut future = std::pin::pin!(carry_future(std::future::ready(())));
    let mut task = Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut task).is_ready());
    assert!(current().is_none());
}
