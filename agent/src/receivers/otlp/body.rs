//! Reading a request's body into one buffer, admitted before it is allocated.

use std::pin::pin;

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;

use super::lane::Place;
use super::problem::Problem;
use super::room::Room;

/// Gathers `body` in `room`. With a declared length the buffer is allocated once and each byte is copied once.
///
/// # Errors
/// [`Problem::TooLarge`] before anything is read where the length is declared, refusals of memory likewise, and
/// [`Problem::Unreadable`] when the body breaks off.
pub(super) async fn collect<B>(body: B, room: &mut Room<'_>) -> Result<(), Problem>
where
    B: Body,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let mut place = Place::none();
    if let Some(length) = body.size_hint().exact() {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        room.enter(length).await?;
        place = Place::take(length).await;
    } else if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > room.limit() {
        return Err(Problem::TooLarge(room.limit()));
    } else {
        room.enter(0).await?;
    }
    while let Some(frame) = place.read(body.frame()).await {
        let frame = frame.map_err(|error| Problem::Unreadable(error.to_string()))?;
        // Trailers say nothing that matters here.
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        while data.has_remaining() {
            let length = data.chunk().len();
            room.append(data.chunk())?;
            data.advance(length);
        }
    }
    Ok(())
}
