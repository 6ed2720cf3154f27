//! Pictures and sounds in object storage: a folder, and a bucket of S3's kind over a real socket.

mod bucket;

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use weir_proto::broker::v1::{
    ByteRange, DeleteResultRequest, Extent, GetResultRequest, InvokeAction, Job, JobState, JobStep, ListResultsRequest,
    Operation, ReadResultRequest, ReadResultResponse, ResultSettings, StoreAction, UpdateResultSettingsRequest,
    byte_range::From, job_step,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Bearer, Failure};
use weir_simulator::Options;
use weir_types::{OrganizationId, names};

use crate::jobs::{House, invoke, result};
use crate::scene::Scene;
use bucket::Bucket;

/// Storing is looked after quickly.
const QUICK: &str = "look = \"20ms\"\npublic_url = \"https://api.example.com/\"";

/// A house with a folder to store into.
struct Kept {
    house: House,
    folder: tempfile::TempDir,
}

impl Kept {
    async fn with(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let settings = format!("[broker.results]\nfolder = \"{at}\"\n{QUICK}\n{settings}\n");
        Self { house: House::with(Options::default(), &settings).await, folder }
    }

    fn scene(&self) -> &Scene {
        &self.house.scene
    }

    /// The files in the folder.
    fn files(&self) -> Vec<String> {
        let tenants = std::fs::read_dir(self.folder.path()).unwrap();
        let files = tenants.flat_map(|tenant| std::fs::read_dir(tenant.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn draw(size: &str, format: &str) -> JobStep {
    let body = json!({"model": "dall-e-3", "prompt": "a ring", "size": size, "response_format": format});
    let action = InvokeAction { operation: Operation::Images.into(), body: body.to_string().into() };
    JobStep { action: Some(job_step::Action::Invoke(action)), ..invoke("draw", &json!({})) }
}

fn store(from: &str, public: bool) -> JobStep {
    let action = StoreAction { from: from.into(), public };
    JobStep { action: Some(job_step::Action::Store(action)), ..invoke("keep", &json!({})) }
}

fn job(size: &str, format: &str, public: bool) -> Job {
    Job { steps: vec![draw(size, format), store("draw", public)], ..Job::default() }
}

/// What an address says.
#[derive(Debug, Clone)]
struct Address {
    organization: String,
    file: String,
    expires: i64,
    signature: String,
}

impl Address {
    fn of(url: &str) -> Self {
        let path = url.strip_prefix("https://api.example.com/results/").unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, "expires=0&signature="));
        let (organization, file) = path.split_once('/').unwrap();
        let (expires, signature) = query.strip_prefix("expires=").unwrap().split_once("&signature=").unwrap();
        let [organization, file, signature] = [organization, file, signature].map(str::to_owned);
        Self { organization, file, expires: expires.parse().unwrap(), signature }
    }

    fn request(&self) -> ReadResultRequest {
        ReadResultRequest {
            organization: self.organization.clone(),
            file: self.file.clone(),
            expires: self.expires,
            signature: self.signature.clone(),
            ..ReadResultRequest::default()
        }
    }
}

impl Scene {
    async fn turn_storing(&self, on: bool) {
        let name = format!("{}/resultSettings", names::organization(&self.organization));
        let settings = Some(ResultSettings { name, enabled: on, retention: None });
        let request = self.bearer.request(UpdateResultSettingsRequest { settings });
        self.results.clone().update_result_settings(request).await.unwrap();
    }

    /// Draws and stores; what the last step came to.
    async fn keep(&self, job: Job) -> Value {
        let created = self.create(job).await;
        result(&self.reaches(&created.name, JobState::Complete).await, 1)
    }

    async fn read(&self, request: ReadResultRequest) -> Result<ReadResultResponse, Failure> {
        let answer = self.results.clone().read_result(request).await;
        answer.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    async fn listed_results(&self, bearer: &Bearer, organization: OrganizationId) -> Result<Vec<String>, Failure> {
        let parent = names::organization(&organization);
        let request = ListResultsRequest { parent, page_size: 2, ..ListResultsRequest::default() };
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let request = ListResultsRequest { page_token: token, ..request.clone() };
            let answer = self.results.clone().list_results(bearer.request(request)).await.map_err(Failure::from)?;
            let answer = answer.into_inner();
            found.extend(answer.results.into_iter().map(|stored| stored.name));
            token = answer.next_page_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_stored_before_the_tenant_turns_it_on() {
    let kept = Kept::with("").await;
    let scene = kept.scene();
    let refused = scene.try_create(job("64x64", "b64_json", false), "").await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::PermissionDenied);
    assert!(refused.message().contains("result-settings"), "{}", refused.message());
    scene.turn_storing(true).await;
    scene.keep(job("64x64", "b64_json", false)).await;
    assert_eq!(kept.files().len(), 1);
    // A job that was accepted before it was turned off stores nothing after.
    let late = Job {
        run_time: Some(std::time::SystemTime::now().checked_add(std::time::Duration::from_millis(600)).unwrap().into()),
        ..job("64x64", "b64_json", false)
    };
    let late = scene.create(late).await;
    scene.turn_storing(false).await;
    let late = scene.reaches(&late.name, JobState::Failed).await;
    assert_eq!(late.error.unwrap().reason(), ErrorReason::PermissionDenied);
    assert_eq!(kept.files().len(), 1, "what was stored stays");
}

#[tokio::test]
async fn a_picture_is_made_small_stored_and_read_by_its_signed_address() {
    let kept = Kept::with("max_side = 100\nmax_bytes = 20000").await;
    let scene = kept.scene();
    scene.turn_storing(true).await;
    for format in ["b64_json", "url"] {
        let stored = scene.keep(job("300x200", format, false)).await;
        let stored = &stored["data"][0];
        assert_eq!((&stored["content_type"], &stored["width"]), (&json!("image/jpeg"), &json!(100)), "{stored}");
        assert!(stored["bytes"].as_u64().unwrap() <= 20_000 && stored["height"].as_u64().unwrap().abs_diff(67) <= 1);
        let address = Address::of(stored["url"].as_str().unwrap());
        let read = scene.read(address.request()).await.unwrap();
        assert_eq!((read.content_type.as_str(), read.extent(), read.public), ("image/jpeg", Extent::Whole, false));
        assert_eq!(read.content.len() as u64, stored["bytes"].as_u64().unwrap());
        assert!(read.content.starts_with(&[0xff, 0xd8]));
        // A week, as signed.
        assert!((604_790..=604_800).contains(&read.fresh_for.unwrap().seconds), "{:?}", read.fresh_for);
        let again = ReadResultRequest { known_etags: vec![read.etag.clone()], ..address.request() };
        let again = scene.read(again).await.unwrap();
        assert_eq!((again.extent(), again.content.len()), (Extent::NotModified, 0));
        let part = ByteRange { from: Some(From::First(2)), last: Some(4) };
        let part = scene.read(ReadResultRequest { range: Some(part), ..address.request() }).await.unwrap();
        assert_eq!((part.extent(), part.first, &part.content), (Extent::Part, 2, &read.content.slice(2..5)));
        assert_eq!(part.total_bytes, i64::try_from(read.content.len()).unwrap());
    }
}

#[tokio::test]
async fn a_sound_that_a_job_asks_for_is_stored_and_paid_by_its_characters() {
    let kept = Kept::with("").await;
    let scene = kept.scene();
    scene.turn_storing(true).await;
    let body = json!({"model": "tts-1", "input": "how high is the water", "voice": "alloy", "response_format": "wav"});
    let action = InvokeAction { operation: Operation::Speech.into(), body: body.to_string().into() };
    let say = JobStep { action: Some(job_step::Action::Invoke(action)), ..invoke("draw", &json!({})) };
    let stored = scene.keep(Job { steps: vec![say, store("draw", false)], ..Job::default() }).await;
    let stored = &stored["data"][0];
    assert_eq!(stored["content_type"], "audio/wav", "{stored}");
    let read = scene.read(Address::of(stored["url"].as_str().unwrap()).request()).await.unwrap();
    assert_eq!((read.content_type.as_str(), &read.content[..4]), ("audio/wav", &b"RIFF"[..]));
    assert_eq!(scene.ends().await, (1, 1, 0));
    let recorded = scene.siblings.recorded.lock();
    let event = recorded.values().next().unwrap();
    assert_eq!((event.operation.as_str(), event.quantities["character"]), ("audio.speech", 21));
}

#[tokio::test]
async fn nobody_reads_without_the_whole_address_or_what_is_of_another_tenant() {
    let kept = Kept::with("url_lifetime = \"1s\"").await;
    let scene = kept.scene();
    scene.turn_storing(true).await;
    let private = scene.keep(job("64x64", "b64_json", false)).await;
    let private = Address::of(private["data"][0]["url"].as_str().unwrap());
    let public = scene.keep(job("64x64", "b64_json", true)).await;
    let public = Address::of(public["data"][0]["url"].as_str().unwrap());
    assert!(public.signature.is_empty());
    assert!(scene.read(public.request()).await.unwrap().public);
    let stranger = scene.strange.to_string();
    let other = if private.signature.ends_with('A') { "B" } else { "A" };
    let forged = format!("{}{other}", &private.signature[..private.signature.len() - 1]);
    for (what, address) in [
        ("unsigned", Address { signature: String::new(), expires: 0, ..private.clone() }),
        ("later", Address { expires: private.expires + 1, ..private.clone() }),
        ("forged", Address { signature: forged, ..private.clone() }),
        ("another file", Address { file: public.file.clone(), ..private.clone() }),
        ("another extension", Address { file: public.file.replace(".png", ".jpg"), ..public.clone() }),
        ("another tenant", Address { organization: stranger.clone(), ..public.clone() }),
        ("upwards", Address { file: format!("../{}/{}", public.organization, public.file), ..public.clone() }),
        ("nothing", Address { file: String::new(), ..public.clone() }),
    ] {
        let refused = scene.read(address.request()).await.expect_err(what);
        assert_eq!(refused.reason(), ErrorReason::NotFound, "{what}");
    }
    scene.eventually("the address expires", async |scene| scene.read(private.request()).await.is_err()).await;
    // Who owns it gets a new address; nobody else does.
    let id = private.file.split('.').next().unwrap();
    let name = format!("{}/results/{id}", names::organization(&scene.organization));
    let get = |bearer: &Bearer| bearer.request(GetResultRequest { name: name.clone() });
    let fresh = scene.results.clone().get_result(get(&scene.bearer)).await.unwrap().into_inner();
    scene.read(Address::of(&fresh.url).request()).await.unwrap();
    let refused = Failure::from(scene.results.clone().get_result(get(&scene.stranger)).await.unwrap_err());
    assert_eq!(refused.reason(), ErrorReason::NotFound);
    assert!(scene.listed_results(&scene.stranger, scene.organization).await.is_err());
    assert!(scene.listed_results(&scene.stranger, scene.strange).await.unwrap().is_empty());
}

#[tokio::test]
async fn results_go_at_the_end_of_their_retention_and_when_they_are_deleted() {
    let kept = Kept::with("retention = \"1h\"").await;
    let scene = kept.scene();
    scene.turn_storing(true).await;
    for _ in 0..3 {
        scene.keep(job("64x64", "b64_json", true)).await;
    }
    let listed = scene.listed_results(&scene.bearer, scene.organization).await.unwrap();
    assert!(listed.len() == 3 && listed.is_sorted_by(|a, b| a > b), "newest first: {listed:?}");
    let delete = |bearer: &Bearer| bearer.request(DeleteResultRequest { name: listed[0].clone() });
    assert!(scene.results.clone().delete_result(delete(&scene.stranger)).await.is_err());
    scene.results.clone().delete_result(delete(&scene.bearer)).await.unwrap();
    assert_eq!(scene.listed_results(&scene.bearer, scene.organization).await.unwrap(), listed[1..]);
    scene.eventually("its file is gone", async |_| kept.files().len() == 2).await;
    let aged = sqlx::query("update broker.results set expires_at = now() where organization_id = $1")
        .bind(scene.organization.as_uuid());
    aged.execute(scene.database.pool()).await.unwrap();
    scene.eventually("all files are gone", async |_| kept.files().is_empty()).await;
    let rows = "select count(*) from broker.results";
    scene
        .eventually("all rows are gone", async |scene| {
            sqlx::query_scalar::<_, i64>(rows).fetch_one(scene.database.pool()).await.unwrap() == 0
        })
        .await;
}

#[tokio::test]
async fn a_tenants_own_retention_holds_and_is_never_longer_than_the_deployments() {
    let kept = Kept::with("retention = \"1h\"").await;
    let scene = kept.scene();
    let set = async |seconds: i64| {
        let name = format!("{}/resultSettings", names::organization(&scene.organization));
        let retention = Some(prost_types::Duration { seconds, nanos: 0 });
        let settings = Some(ResultSettings { name, enabled: true, retention });
        let request = scene.bearer.request(UpdateResultSettingsRequest { settings });
        scene.results.clone().update_result_settings(request).await.map_err(Failure::from)
    };
    for wrong in [0, -1, 3601] {
        assert_eq!(set(wrong).await.unwrap_err().reason(), ErrorReason::InvalidArgument, "{wrong}");
    }
    set(1).await.unwrap();
    scene.keep(job("64x64", "b64_json", true)).await;
    scene.eventually("it is gone", async |_| kept.files().is_empty()).await;
}

#[tokio::test]
async fn a_bucket_keeps_pictures_with_their_type_and_outlives_its_failures() {
    let bucket = Bucket::start().await;
    let settings = format!("[broker.results]\n{QUICK}\ntimeout = \"5s\"\n{}", bucket.settings());
    let house = House::with(Options::default(), &settings).await;
    let scene = &house.scene;
    scene.turn_storing(true).await;
    bucket.state.failures.store(1, Ordering::SeqCst);
    let stored = scene.keep(job("64x64", "url", true)).await;
    let address = Address::of(stored["data"][0]["url"].as_str().unwrap());
    assert_eq!(bucket.paths(), [format!("{}/{}", address.organization, address.file)]);
    let object = bucket.state.objects.lock().values().next().unwrap().clone();
    assert_eq!(object.headers["content-type"], "image/png");
    assert_eq!(object.headers["cache-control"], "public, max-age=31536000, immutable");
    let read = scene.read(address.request()).await.unwrap();
    assert_eq!(read.content, object.bytes);
    let suffix = ByteRange { from: Some(From::Suffix(3)), last: None };
    let part = scene.read(ReadResultRequest { range: Some(suffix), ..address.request() }).await.unwrap();
    assert_eq!(part.content, object.bytes.slice(object.bytes.len() - 3..));
    // Nothing in it is said to be away, not to be nothing.
    bucket.state.failures.store(1000, Ordering::SeqCst);
    assert_eq!(scene.read(address.request()).await.unwrap_err().reason(), ErrorReason::Unavailable);
    let known = ReadResultRequest { known_etags: vec![read.etag], ..address.request() };
    assert_eq!(scene.read(known).await.unwrap().extent(), Extent::NotModified, "the bucket is not asked");
    bucket.state.failures.store(0, Ordering::SeqCst);
    let name =
        format!("{}/results/{}", names::organization(&scene.organization), address.file.split('.').next().unwrap());
    scene.results.clone().delete_result(scene.bearer.request(DeleteResultRequest { name })).await.unwrap();
    scene.eventually("it is gone from the bucket", async |_| bucket.paths().is_empty()).await;
}

#[tokio::test]
async fn what_is_no_picture_fails_the_job_and_leaves_nothing() {
    let kept = Kept::with("").await;
    let scene = kept.scene();
    scene.turn_storing(true).await;
    let text = Job { steps: vec![invoke("draw", &crate::scene::chat(2, "")), store("draw", false)], ..Job::default() };
    let created = scene.create(text).await;
    let failed = scene.reaches(&created.name, JobState::Failed).await;
    assert!(failed.error.unwrap().message.contains("no picture"));
    assert!(kept.files().is_empty());
}
